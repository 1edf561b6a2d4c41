"""lumiwatch's own engine: SystemVerilog of quantised dense networks with all parameters in memory."""
