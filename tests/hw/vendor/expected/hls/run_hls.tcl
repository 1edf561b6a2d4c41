# Vitis HLS up to 2024.1: vitis_hls -f run_hls.tcl
set here [file dirname [file normalize [info script]]]
open_project -reset lumiwatch_top_project
set_top lumiwatch_top
add_files $here/firmware/lumiwatch_top.cpp -cflags "-std=c++14 -I$here/firmware"
add_files $here/firmware/network.cpp -cflags "-std=c++14 -I$here/firmware"
add_files -tb $here/testbench/testbench.cpp -cflags "-std=c++14 -I$here/firmware"
open_solution -reset -flow_target vivado solution1
set_part xcvu13p-flga2577-2-e
create_clock -period 2.5 -name default
set_clock_uncertainty 12.5%
csim_design
csynth_design
cosim_design
export_design -rtl verilog -format ip_catalog -output $here/lumiwatch_top.zip
exit
