// A small parameter memory: one word per address, in two banks. The bus writes and reads it, the engine reads it.
// Both reads are registered. A word that is written while it is read gives either value.
module lumiwatch_table #(
    parameter int WIDTH = 8,
    parameter int ADDRESS = 1  // bits of the address, the bank (its first bit) included
) (
    input  logic clk,
    input  logic bus_write,
    input  logic bus_read,
    input  logic [ADDRESS-1:0] bus_address,
    input  logic [WIDTH-1:0] bus_data,
    output logic [WIDTH-1:0] bus_value,
    input  logic enable,
    input  logic [ADDRESS-1:0] address,
    output logic [WIDTH-1:0] value
);
    (* no_rw_check *) logic [WIDTH-1:0] words[0:2**ADDRESS-1];

    always_ff @(posedge clk) begin
        if (bus_write) words[bus_address] <= bus_data;
        if (bus_read) bus_value <= words[bus_address];
    end
    always_ff @(posedge clk) if (enable) value <= words[address];
endmodule
