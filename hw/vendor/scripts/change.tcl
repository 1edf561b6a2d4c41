# Builds new content for some partitions into the static part that base.tcl left in another folder.
# usage: vivado -mode batch -source scripts/change.tcl -tclargs BASE_FOLDER
set here [file dirname [file normalize [info script]]]
source [file join $here settings.tcl]
source [file join $here dfx.tcl]
source [file join $here memory_map.tcl]

if {$argc != 1} {
    error "usage: vivado -mode batch -source scripts/change.tcl -tclargs BASE_FOLDER"
}
set base [lindex $argv 0]
begin
check_shell $base
foreach name [of changed] {
    synthesise_partition $name
}
implement_change $base [of variant] [of changed]
verify [file join $base checkpoints/first_routed.dcp] checkpoints/[of variant]_routed.dcp
write_bitstreams [of variant] [of changed]
