create_pblock pblock_p0
add_cells_to_pblock [get_pblocks pblock_p0] [get_cells shell/p0]
resize_pblock [get_pblocks pblock_p0] -add {SLICE_X0Y0:SLICE_X49Y119}
resize_pblock [get_pblocks pblock_p0] -add {DSP48E2_X0Y0:DSP48E2_X9Y47}
set_property SNAPPING_MODE ON [get_pblocks pblock_p0]
set_property CONTAIN_ROUTING true [get_pblocks pblock_p0]

create_pblock pblock_p1
add_cells_to_pblock [get_pblocks pblock_p1] [get_cells shell/p1]
resize_pblock [get_pblocks pblock_p1] -add {CLOCKREGION_X2Y1:CLOCKREGION_X3Y2}
set_property SNAPPING_MODE ROUTING [get_pblocks pblock_p1]
set_property CONTAIN_ROUTING true [get_pblocks pblock_p1]
