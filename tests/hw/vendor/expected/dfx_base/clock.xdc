create_clock -name clk -period 2.5 [get_ports clk]
