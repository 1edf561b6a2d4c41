# Builds the static part and the first content of every partition, then all bitstreams.
set here [file dirname [file normalize [info script]]]
source [file join $here settings.tcl]
source [file join $here dfx.tcl]
source [file join $here memory_map.tcl]

begin
synthesise_static
foreach name [dict keys [of partitions]] {
    synthesise_partition $name
}
implement_first
lock_static
verify checkpoints/first_routed.dcp checkpoints/empty_routed.dcp
write_bitstreams first [dict keys [of partitions]]
write_bitstreams empty [dict keys [of partitions]]
