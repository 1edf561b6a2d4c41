// Converts a fixed-point number into another format: rounds it first, then brings it into range.
// Combinational. The meaning is that of ap_fixed: ROUNDING 0 = TRN, 1 = RND, 2 = RND_CONV; SATURATE 0 = WRAP.
module lumiwatch_requantise #(
    parameter int W_IN = 8,      // bits of the signed input
    parameter int SHIFT = 0,     // fraction bits of the input minus those of the result; may be negative
    parameter int W_OUT = 8,     // bits of the result
    parameter int S_OUT = 1,     // 1: the result is signed
    parameter int ROUNDING = 0,
    parameter int SATURATE = 0
) (
    input  logic signed [W_IN-1:0] value,
    output logic [W_OUT-1:0] result
);
    localparam int UP = SHIFT < 0 ? -SHIFT : 0;
    localparam int DOWN = SHIFT > 0 ? SHIFT : 0;
    // one bit more than value or result needs: rounding carries, and an unsigned maximum needs a sign
    localparam int W = (W_IN + UP > W_OUT ? W_IN + UP : W_OUT) + 2;
    localparam int W_SHIFTED = W > DOWN + 1 ? W : DOWN + 1;

    logic signed [W_SHIFTED-1:0] wide;
    /* verilator lint_off UNUSEDSIGNAL */  // WRAP drops the bits above
    logic signed [W-1:0] rounded;
    /* verilator lint_on UNUSEDSIGNAL */
    assign wide = W_SHIFTED'(value) <<< UP;

    generate
        if (DOWN == 0 || ROUNDING == 0) begin : truncate
            assign rounded = W'(wide >>> DOWN);
        end else begin : nearest
            logic half, up;
            assign half = wide[DOWN-1];
            if (ROUNDING == 1) begin : to_plus_infinity
                assign up = half;
            end else if (DOWN == 1) begin : to_even_from_one_bit
                assign up = half & wide[DOWN];
            end else begin : to_even
                assign up = half & (wide[DOWN] | (|wide[DOWN-2:0]));
            end
            assign rounded = W'(wide >>> DOWN) + $signed({{(W - 1) {1'b0}}, up});
        end

        if (SATURATE != 0) begin : saturate
            logic fits;
            if (S_OUT != 0) begin : signed_range
                // it fits when all bits from the sign of the result upwards agree
                assign fits = (&rounded[W-1:W_OUT-1]) | ~(|rounded[W-1:W_OUT-1]);
                if (W_OUT == 1) begin : one_bit
                    assign result = fits ? rounded[0] : rounded[W-1];
                end else begin : ends
                    assign result = fits ? rounded[W_OUT-1:0] : {rounded[W-1], {(W_OUT - 1) {~rounded[W-1]}}};
                end
            end else begin : unsigned_range
                assign fits = ~(|rounded[W-1:W_OUT]);
                assign result = fits ? rounded[W_OUT-1:0] : {W_OUT{~rounded[W-1]}};
            end
        end else begin : wrap
            assign result = rounded[W_OUT-1:0];
        end
    endgenerate
endmodule
