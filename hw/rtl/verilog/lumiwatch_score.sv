// The score stage: the sum of the squares of an event's values, or one of them (LOGIT), converted into the score's
// format and compared with the threshold. The answer waits until it is taken.
module lumiwatch_score #(
    parameter int N = 1,
    parameter int INDEX = 1,   // bits that number a value
    parameter int LOGIT = 0,
    parameter int OUTPUT = 0,  // the value that is the score (LOGIT)
    parameter int W_IN = 8, parameter int S_IN = 1,
    parameter int W_TOTAL = 16,
    parameter int SHIFT = 0,
    parameter int W_OUT = 8, parameter int S_OUT = 1,
    parameter int ROUNDING = 0, parameter int SATURATE = 0
) (
    input  logic clk,
    input  logic rst,
    input  logic bus_write_threshold,
    input  logic bus_read_threshold,
    input  logic bus_address,  // bank
    /* verilator lint_off UNUSEDSIGNAL */  // parameters may be narrower than the bus
    input  logic [31:0] bus_data,
    /* verilator lint_on UNUSEDSIGNAL */
    output logic [31:0] bus_threshold,
    input  logic in_valid,
    output logic in_ready,
    input  logic [W_IN-1:0] in_data,
    input  logic in_bank,
    output logic score_valid,
    input  logic score_ready,
    output logic [W_OUT-1:0] score,
    output logic accept
);
    localparam int X = W_IN + 1 - S_IN;

    logic [INDEX-1:0] index;
    logic last, take, pending;
    assign last = index == INDEX'(N - 1);
    assign in_ready = ~(last & pending);
    assign take = in_valid & in_ready;
    always_ff @(posedge clk) begin
        if (take) index <= last ? '0 : index + 1'b1;
        if (take & last) pending <= 1'b1;
        else if (score_valid & score_ready) pending <= 1'b0;
        if (rst) begin
            index <= '0;
            pending <= 1'b0;
        end
    end

    logic signed [X-1:0] value;
    logic valid_1, last_1, bank_1, done_2, bank_2, done_3;
    logic signed [W_TOTAL-1:0] term_1, total_2;
    generate
        if (S_IN != 0) begin : signed_value
            assign value = $signed(in_data);
        end else begin : unsigned_value
            assign value = $signed({1'b0, in_data});
        end
        if (LOGIT != 0) begin : logit
            always_ff @(posedge clk) begin
                term_1 <= W_TOTAL'(value);
                valid_1 <= take & index == INDEX'(OUTPUT);
                if (valid_1) total_2 <= term_1;
            end
        end else begin : sum_of_squares
            logic first_1;
            always_ff @(posedge clk) begin
                term_1 <= W_TOTAL'(value) * W_TOTAL'(value);
                valid_1 <= take;
                first_1 <= index == '0;
                if (valid_1) total_2 <= first_1 ? term_1 : total_2 + term_1;
            end
        end
    endgenerate

    logic [W_OUT-1:0] threshold_word, threshold_bus, result;
    lumiwatch_table #(.WIDTH(W_OUT), .ADDRESS(1)) thresholds (
        .clk, .bus_write(bus_write_threshold), .bus_read(bus_read_threshold), .bus_address,
        .bus_data(W_OUT'(bus_data)), .bus_value(threshold_bus),
        .enable(done_2), .address(bank_2), .value(threshold_word)
    );
    lumiwatch_requantise #(
        .W_IN(W_TOTAL), .SHIFT(SHIFT), .W_OUT(W_OUT), .S_OUT(S_OUT), .ROUNDING(ROUNDING), .SATURATE(SATURATE)
    ) requantise (.value(total_2), .result);

    logic above;
    generate
        if (S_OUT != 0) begin : signed_score
            assign above = $signed(score) > $signed(threshold_word);
            assign bus_threshold = 32'($signed(threshold_bus));
        end else begin : unsigned_score
            assign above = score > threshold_word;
            assign bus_threshold = 32'(threshold_bus);
        end
    endgenerate
    always_ff @(posedge clk) begin
        {last_1, bank_1} <= {take & last, in_bank};
        {done_2, bank_2} <= {last_1, bank_1};
        done_3 <= done_2;
        if (done_2) score <= result;
        if (done_3) begin
            accept <= above;
            score_valid <= 1'b1;
        end else if (score_ready) score_valid <= 1'b0;
        if (rst) {last_1, done_2, done_3, score_valid} <= '0;
    end
endmodule
