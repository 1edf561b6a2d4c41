# Where the words of each weight memory lie in the block RAMs, as the XML that updatemem reads (UG1580).

proc write_memory_maps {variant} {
    dict for {name memory} [of memories] {
        set cells [get_cells -hierarchical -filter "PRIMITIVE_TYPE =~ BLOCKRAM.*.* && NAME =~ [dict get $memory cells]"]
        if {[llength $cells] == 0} {
            error "no block RAM matches [dict get $memory cells] of $name: give the memory ram_style block"
        }
        write_memory_map bitstreams/${variant}_${name}.mmi $name [dict get $memory width] [dict get $memory words] $cells
    }
}

# Lanes go in the order of the data: rising addresses, then the highest bits first.
proc compare_lanes {a b} {
    lassign $a begin_a end_a low_a
    lassign $b begin_b end_b low_b
    if {$begin_a != $begin_b} {
        return [expr {$begin_a - $begin_b}]
    }
    return [expr {$low_b - $low_a}]
}

proc write_memory_map {path name width words cells} {
    set lanes {}
    foreach cell $cells {
        lappend lanes [list [get_property bram_addr_begin $cell] [get_property bram_addr_end $cell] \
            [get_property bram_slice_begin $cell] [get_property bram_slice_end $cell] [get_property LOC $cell]]
    }
    set lanes [lsort -command compare_lanes $lanes]
    set xml [open $path w]
    puts $xml {<?xml version="1.0" encoding="UTF-8"?>}
    puts $xml {<MemInfo Version="1" Minor="1">}
    puts $xml {  <Processor Endianness="Little" InstPath="dummy">}
    puts $xml "    <AddressSpace Name=\"$name\" Begin=\"0\" End=\"[expr {$words * $width / 8 - 1}]\">"
    set block ""
    foreach lane $lanes {
        lassign $lane begin end low high location
        if {![regexp {^(RAMB\d+)_(X\d+Y\d+)$} $location all kind site]} {
            error "$name lies at '$location', which is no block RAM: place the design first"
        }
        if {$begin ne $block} {
            if {$block ne ""} {
                puts $xml {      </BusBlock>}
            }
            puts $xml {      <BusBlock>}
            set block $begin
        }
        puts $xml "        <BitLane MemType=\"$kind\" Placement=\"$site\">"
        puts $xml "          <DataWidth MSB=\"$high\" LSB=\"$low\"/>"
        puts $xml "          <AddressRange Begin=\"$begin\" End=\"$end\"/>"
        puts $xml {          <Parity ON="false" NumBits="0"/>}
        puts $xml {        </BitLane>}
    }
    puts $xml {      </BusBlock>}
    puts $xml {    </AddressSpace>}
    puts $xml {  </Processor>}
    puts $xml "  <Config><Option Name=\"Part\" Val=\"[of part]\"/></Config>"
    puts $xml {</MemInfo>}
    close $xml
}
