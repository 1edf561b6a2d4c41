"""Real bitstreams with open tools: Verilog to a Lattice ECP5, and new weights without place and route."""
