// The weight memory of a layer: rows of LANES words, in two banks. The engine reads a row per clock, the bus writes
// and reads single words. There is one read port, so a bus read takes a clock from the engine: any block RAM fits.
module lumiwatch_rows #(
    parameter int WIDTH = 8,
    parameter int LANES = 1,
    parameter int LANE = 1,    // bits that number a lane
    parameter int ADDRESS = 1  // bits of the row's address, the bank (its first bit) included
) (
    input  logic clk,
    input  logic bus_write,
    input  logic bus_read,
    input  logic [ADDRESS-1:0] bus_row,
    input  logic [LANE-1:0] bus_lane,
    input  logic [WIDTH-1:0] bus_data,
    output logic [WIDTH-1:0] bus_value,
    input  logic enable,
    input  logic [ADDRESS-1:0] address,
    output logic [LANES*WIDTH-1:0] row
);
    (* ram_style = "block", no_rw_check *) logic [LANES*WIDTH-1:0] rows[0:2**ADDRESS-1];
    logic [LANE-1:0] lane;

    generate
        for (genvar l = 0; l < LANES; l++) begin : lanes
            always_ff @(posedge clk)
                if (bus_write && bus_lane == LANE'(l)) rows[bus_row][l*WIDTH+:WIDTH] <= bus_data;
        end
    endgenerate
    always_ff @(posedge clk) begin
        if (bus_read | enable) row <= rows[bus_read ? bus_row : address];
        if (bus_read) lane <= bus_lane;
    end
    assign bus_value = row[lane*WIDTH+:WIDTH];
endmodule
