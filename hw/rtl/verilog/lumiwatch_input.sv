// The input stage: result = requantise((code - offset) * scale), one code per clock, four clocks from code to result.
// The bank is taken with the first code of an event and goes with the event through the whole firmware.
module lumiwatch_input #(
    parameter int N = 1,
    parameter int INDEX = 1,          // bits that number an input
    parameter int W_OFFSET = 16, parameter int S_OFFSET = 1,
    parameter int W_SCALE = 16, parameter int S_SCALE = 1,
    parameter int CODE_SHIFT = 0,     // fraction bits of the difference
    parameter int OFFSET_SHIFT = 0,
    parameter int W_DIFFERENCE = 17,
    parameter int SHIFT = 0,
    parameter int W_OUT = 16, parameter int S_OUT = 1,
    parameter int ROUNDING = 0, parameter int SATURATE = 0
) (
    input  logic clk,
    input  logic rst,
    input  logic bus_write_offset, input logic bus_write_scale,
    input  logic bus_read_offset, input logic bus_read_scale,
    input  logic [INDEX:0] bus_address,
    /* verilator lint_off UNUSEDSIGNAL */  // parameters may be narrower than the bus
    input  logic [31:0] bus_data,
    /* verilator lint_on UNUSEDSIGNAL */
    output logic [31:0] bus_offset,
    output logic [31:0] bus_scale,
    input  logic bank,
    input  logic in_valid,
    output logic in_ready,
    input  logic [15:0] in_data,
    output logic out_valid,
    input  logic out_ready,
    output logic [W_OUT-1:0] out_data,
    output logic out_bank
);
    localparam int Y_OFFSET = W_OFFSET + 1 - S_OFFSET;
    localparam int Y_SCALE = W_SCALE + 1 - S_SCALE;
    localparam int W_PRODUCT = W_DIFFERENCE + Y_SCALE;

    logic [INDEX-1:0] index;
    logic held, now, advance, take;
    assign advance = ~out_valid | out_ready;
    assign in_ready = advance;
    assign take = in_valid & advance;
    assign now = index == '0 ? bank : held;

    always_ff @(posedge clk) begin
        if (take) begin
            index <= index == INDEX'(N - 1) ? '0 : index + 1'b1;
            held <= now;
        end
        if (rst) index <= '0;
    end

    logic [W_OFFSET-1:0] offset_word, offset_bus;
    logic [W_SCALE-1:0] scale_word, scale_bus;
    lumiwatch_table #(.WIDTH(W_OFFSET), .ADDRESS(INDEX + 1)) offsets (
        .clk, .bus_write(bus_write_offset), .bus_read(bus_read_offset), .bus_address,
        .bus_data(W_OFFSET'(bus_data)), .bus_value(offset_bus),
        .enable(advance), .address({now, index}), .value(offset_word)
    );
    lumiwatch_table #(.WIDTH(W_SCALE), .ADDRESS(INDEX + 1)) scales (
        .clk, .bus_write(bus_write_scale), .bus_read(bus_read_scale), .bus_address,
        .bus_data(W_SCALE'(bus_data)), .bus_value(scale_bus),
        .enable(advance), .address({now, index}), .value(scale_word)
    );

    logic signed [Y_OFFSET-1:0] offset;
    logic signed [Y_SCALE-1:0] scale;
    generate
        if (S_OFFSET != 0) begin : signed_offset
            assign offset = $signed(offset_word);
            assign bus_offset = 32'($signed(offset_bus));
        end else begin : unsigned_offset
            assign offset = $signed({1'b0, offset_word});
            assign bus_offset = 32'(offset_bus);
        end
        if (S_SCALE != 0) begin : signed_scale
            assign scale = $signed(scale_word);
            assign bus_scale = 32'($signed(scale_bus));
        end else begin : unsigned_scale
            assign scale = $signed({1'b0, scale_word});
            assign bus_scale = 32'(scale_bus);
        end
    endgenerate

    logic valid_1, valid_2, valid_3, bank_1, bank_2, bank_3;
    logic signed [15:0] code_1;
    logic signed [W_DIFFERENCE-1:0] difference_2;
    logic signed [Y_SCALE-1:0] scale_2;
    logic signed [W_PRODUCT-1:0] product_3;
    logic [W_OUT-1:0] result;
    lumiwatch_requantise #(
        .W_IN(W_PRODUCT), .SHIFT(SHIFT), .W_OUT(W_OUT), .S_OUT(S_OUT), .ROUNDING(ROUNDING), .SATURATE(SATURATE)
    ) requantise (.value(product_3), .result);

    always_ff @(posedge clk) begin
        if (advance) begin
            {valid_1, bank_1, code_1} <= {in_valid, now, in_data};
            {valid_2, bank_2, scale_2} <= {valid_1, bank_1, scale};
            difference_2 <= (W_DIFFERENCE'(code_1) <<< CODE_SHIFT) - (W_DIFFERENCE'(offset) <<< OFFSET_SHIFT);
            {valid_3, bank_3} <= {valid_2, bank_2};
            product_3 <= W_PRODUCT'(difference_2) * W_PRODUCT'(scale_2);
            {out_valid, out_bank, out_data} <= {valid_3, bank_3, result};
        end
        if (rst) {valid_1, valid_2, valid_3, out_valid} <= '0;
    end
endmodule
