// A dense layer: LANES multiply-accumulators share the inputs, which come one after another. A row of weights is read
// per clock, REUSE rows per input. The finished sums move aside, get their bias, are converted and leave one per clock,
// while the next event is summed.
module lumiwatch_dense #(
    parameter int N_IN = 1,
    parameter int N_OUT = 1,
    parameter int REUSE = 1,      // clocks per input; LANES * REUSE >= N_OUT
    parameter int LANES = 1,
    parameter int ROW = 1,        // bits that number an input
    parameter int GROUP = 1,      // bits that number one of the REUSE rows of an input; no address bits if it is one
    parameter int LANE = 1,       // bits that number a lane
    parameter int RESULT = 1,     // bits that number a result
    parameter int ADDRESS = ROW + (REUSE > 1 ? GROUP : 0) + 1,  // bits of a row's address; not to be set
    parameter int W_IN = 8, parameter int S_IN = 1,
    parameter int W_WEIGHT = 8, parameter int S_WEIGHT = 1,
    parameter int W_BIAS = 8, parameter int S_BIAS = 1,
    parameter int W_SUM = 16,     // holds every sum of products
    parameter int SUM_SHIFT = 0, parameter int BIAS_SHIFT = 0,
    parameter int W_TOTAL = 17,   // holds every sum of products and bias, both shifted
    parameter int SHIFT = 0,
    parameter int W_OUT = 8, parameter int S_OUT = 1,
    parameter int ROUNDING = 0, parameter int SATURATE = 0, parameter int RELU = 0
) (
    input  logic clk,
    input  logic rst,
    input  logic bus_write_weight, input logic bus_write_bias,
    input  logic bus_read_weight, input logic bus_read_bias,
    input  logic [ADDRESS+LANE-1:0] bus_weight_address,  // bank, input, group, lane
    input  logic [RESULT:0] bus_bias_address,            // bank, result
    /* verilator lint_off UNUSEDSIGNAL */  // parameters may be narrower than the bus
    input  logic [31:0] bus_data,
    /* verilator lint_on UNUSEDSIGNAL */
    output logic [31:0] bus_weight,
    output logic [31:0] bus_bias,
    input  logic in_valid,
    output logic in_ready,
    input  logic [W_IN-1:0] in_data,
    input  logic in_bank,
    output logic out_valid,
    input  logic out_ready,
    output logic [W_OUT-1:0] out_data,
    output logic out_bank
);
    localparam int X = W_IN + 1 - S_IN;
    localparam int Y = W_WEIGHT + 1 - S_WEIGHT;
    localparam int Z = W_BIAS + 1 - S_BIAS;

    // Which input and which of its rows comes next. The last row waits until the sums before have left.
    logic [ROW-1:0] input_number;
    logic [GROUP-1:0] group;
    logic last_input, last_group, blocked, step, reserved, release_sums;
    assign last_input = input_number == ROW'(N_IN - 1);
    assign last_group = group == GROUP'(REUSE - 1);
    assign blocked = (last_input & last_group & reserved) | bus_read_weight;
    assign step = in_valid & ~blocked;
    assign in_ready = last_group & ~blocked;

    always_ff @(posedge clk) begin
        if (step) begin
            group <= last_group ? '0 : group + 1'b1;
            if (last_group) input_number <= last_input ? '0 : input_number + 1'b1;
        end
        if (step & last_input & last_group) reserved <= 1'b1;
        else if (release_sums) reserved <= 1'b0;
        if (rst) begin
            input_number <= '0;
            group <= '0;
            reserved <= 1'b0;
        end
    end

    logic [ADDRESS-1:0] row_address;
    logic [LANES*W_WEIGHT-1:0] row;
    logic [W_WEIGHT-1:0] weight_bus;
    lumiwatch_rows #(.WIDTH(W_WEIGHT), .LANES(LANES), .LANE(LANE), .ADDRESS(ADDRESS)) weights (
        .clk, .bus_write(bus_write_weight), .bus_read(bus_read_weight),
        .bus_row(bus_weight_address[ADDRESS+LANE-1:LANE]), .bus_lane(bus_weight_address[LANE-1:0]),
        .bus_data(W_WEIGHT'(bus_data)), .bus_value(weight_bus),
        .enable(step), .address(row_address), .row
    );

    // Read, hold, multiply, add. The row is registered twice: a block RAM and a multiplier in one clock are slow.
    logic valid_1, valid_2, valid_3, first_1, first_2, first_3, last_1, last_2, last_3, done;
    logic bank_1, bank_2, bank_3, bank_4;
    logic [GROUP-1:0] group_1, group_2, group_3;
    logic signed [X-1:0] value, value_1, value_2;
    logic [LANES*W_WEIGHT-1:0] row_2;
    always_ff @(posedge clk) begin
        valid_1 <= step;
        if (step) begin
            value_1 <= value;
            first_1 <= input_number == '0;
            last_1 <= last_input & last_group;
            {group_1, bank_1} <= {group, in_bank};
        end
        valid_2 <= valid_1;
        if (valid_1) begin
            {value_2, row_2} <= {value_1, row};
            {first_2, last_2, group_2, bank_2} <= {first_1, last_1, group_1, bank_1};
        end
        valid_3 <= valid_2;
        {first_3, last_3, group_3, bank_3} <= {first_2, last_2, group_2, bank_2};
        done <= valid_3 & last_3;
        bank_4 <= bank_3;
        if (rst) {valid_1, valid_2, valid_3, done} <= '0;
    end

    // One result leaves per clock. Three registers hold results while the next stage waits.
    logic draining, bank_5, valid_6, valid_7, bank_6, bank_7, free_6, free_7, free_out;
    logic [RESULT-1:0] number;
    logic [N_OUT*W_SUM-1:0] sums;
    assign free_out = ~out_valid | out_ready;
    assign free_7 = ~valid_7 | free_out;
    assign free_6 = ~valid_6 | free_7;
    assign release_sums = draining & free_6 & number == RESULT'(N_OUT - 1);
    always_ff @(posedge clk) begin
        if (done) begin
            draining <= 1'b1;
            bank_5 <= bank_4;
            number <= '0;
        end else if (draining & free_6) begin
            number <= number + 1'b1;
            draining <= ~release_sums;
        end
        if (rst) draining <= 1'b0;
    end

    generate
        if (REUSE > 1) begin : several_rows
            assign row_address = {in_bank, input_number, group};
        end else begin : one_row
            assign row_address = {in_bank, input_number};
        end
        if (S_IN != 0) begin : signed_value
            assign value = $signed(in_data);
        end else begin : unsigned_value
            assign value = $signed({1'b0, in_data});
        end
        for (genvar l = 0; l < LANES; l++) begin : lanes
            logic signed [Y-1:0] weight;
            /* verilator lint_off UNUSEDSIGNAL */  // two unsigned factors leave the first bit empty
            logic signed [X+Y-1:0] product;
            /* verilator lint_on UNUSEDSIGNAL */
            if (S_WEIGHT != 0) begin : signed_weight
                assign weight = $signed(row_2[l*W_WEIGHT+:W_WEIGHT]);
            end else begin : unsigned_weight
                assign weight = $signed({1'b0, row_2[l*W_WEIGHT+:W_WEIGHT]});
            end
            always_ff @(posedge clk) if (valid_2) product <= (X + Y)'(value_2) * (X + Y)'(weight);
            for (genvar g = 0; g < REUSE; g++) begin : groups
                if (g * LANES + l < N_OUT) begin : used
                    logic signed [W_SUM-1:0] sum;
                    always_ff @(posedge clk) begin
                        if (valid_3 && group_3 == GROUP'(g))
                            sum <= first_3 ? W_SUM'(product) : sum + W_SUM'(product);
                        if (done) sums[(g*LANES+l)*W_SUM+:W_SUM] <= sum;
                    end
                end
            end
        end
        if (S_WEIGHT != 0) begin : signed_read_weight
            assign bus_weight = 32'($signed(weight_bus));
        end else begin : unsigned_read_weight
            assign bus_weight = 32'(weight_bus);
        end
    endgenerate

    logic [W_BIAS-1:0] bias_word, bias_bus;
    logic signed [Z-1:0] bias;
    lumiwatch_table #(.WIDTH(W_BIAS), .ADDRESS(RESULT + 1)) biases (
        .clk, .bus_write(bus_write_bias), .bus_read(bus_read_bias), .bus_address(bus_bias_address),
        .bus_data(W_BIAS'(bus_data)), .bus_value(bias_bus),
        .enable(free_6), .address({bank_5, number}), .value(bias_word)
    );
    generate
        if (S_BIAS != 0) begin : signed_bias
            assign bias = $signed(bias_word);
            assign bus_bias = 32'($signed(bias_bus));
        end else begin : unsigned_bias
            assign bias = $signed({1'b0, bias_word});
            assign bus_bias = 32'(bias_bus);
        end
    endgenerate

    logic signed [W_SUM-1:0] sum_6;
    logic signed [W_TOTAL-1:0] total_7;
    logic [W_OUT-1:0] result;
    lumiwatch_requantise #(
        .W_IN(W_TOTAL), .SHIFT(SHIFT), .W_OUT(W_OUT), .S_OUT(S_OUT), .ROUNDING(ROUNDING), .SATURATE(SATURATE)
    ) requantise (.value(total_7), .result);

    always_ff @(posedge clk) begin
        if (free_6) begin
            {valid_6, bank_6} <= {draining, bank_5};
            sum_6 <= $signed(sums[number*W_SUM+:W_SUM]);
        end
        if (free_7) begin
            {valid_7, bank_7} <= {valid_6, bank_6};
            total_7 <= (W_TOTAL'(sum_6) <<< SUM_SHIFT) + (W_TOTAL'(bias) <<< BIAS_SHIFT);
        end
        if (free_out) begin
            {out_valid, out_bank} <= {valid_7, bank_7};
            out_data <= RELU != 0 && S_OUT != 0 && result[W_OUT-1] ? '0 : result;
        end
        if (rst) {valid_6, valid_7, out_valid} <= '0;
    end
endmodule
