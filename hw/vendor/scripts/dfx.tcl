# Steps of a firmware with replaceable partitions in Vivado's non-project mode (UG909).
# They read `firmware`, the dictionary that settings.tcl sets, and nothing else of the design.

proc of {args} {
    global firmware
    return [dict get $firmware {*}$args]
}

proc begin {} {
    foreach folder {checkpoints reports bitstreams} {
        file mkdir $folder
    }
}

proc read_sources {files} {
    foreach path $files {
        switch -- [file extension $path] {
            .v { read_verilog $path }
            .sv { read_verilog -sv $path }
            .vhd - .vhdl { read_vhdl -vhdl2008 $path }
            .mem - .hex { read_mem $path }
            .xci { read_ip $path }
            .xdc { read_xdc $path }
            default { error "no command reads $path: use .v .sv .vhd .mem .xci .xdc" }
        }
    }
}

# The static part, with a black box where each partition will be.
proc synthesise_static {} {
    create_project -in_memory -part [of part]
    read_sources [of static_files]
    read_xdc constraints/clock.xdc
    synth_design -top [of top] -part [of part]
    write_checkpoint -force checkpoints/static_synth.dcp
    close_project
}

proc synthesise_partition {name} {
    create_project -in_memory -part [of part]
    read_sources [of partitions $name files]
    synth_design -mode out_of_context -top [of partitions $name module] -part [of part]
    write_checkpoint -force checkpoints/${name}_synth.dcp
    report_utilization -file reports/${name}_utilization.rpt
    close_project
}

proc mark_partitions {} {
    dict for {name partition} [of partitions] {
        set_property HD.RECONFIGURABLE true [get_cells [dict get $partition cell]]
    }
}

proc place_and_route {variant} {
    opt_design
    place_design
    phys_opt_design
    route_design
    report_route_status -file reports/${variant}_route.rpt
    report_utilization -file reports/${variant}_utilization.rpt
    report_timing_summary -file reports/${variant}_timing.rpt
    report_drc -file reports/${variant}_drc.rpt
    set worst [get_timing_paths -max_paths 1 -nworst 1 -setup]
    set slack [expr {[llength $worst] > 0 ? [get_property SLACK $worst] : ""}]
    if {[string is double -strict $slack] && $slack < 0} {
        error "$variant misses its timing: see reports/${variant}_timing.rpt, use a slower clock or larger regions"
    }
}

# The first configuration fixes the static part for all later ones.
proc implement_first {} {
    open_checkpoint checkpoints/static_synth.dcp
    dict for {name partition} [of partitions] {
        read_checkpoint -cell [dict get $partition cell] checkpoints/${name}_synth.dcp
    }
    mark_partitions
    read_xdc constraints/floorplan.xdc
    place_and_route first
    write_checkpoint -force checkpoints/first_routed.dcp
    dict for {name partition} [of partitions] {
        write_checkpoint -force -cell [dict get $partition cell] checkpoints/${name}_routed.dcp
    }
}

# Continues with the open first configuration: empties the partitions, locks what is left, and makes a
# configuration of the locked part alone, which pr_verify compares with the first.
proc lock_static {} {
    dict for {name partition} [of partitions] {
        update_design -cell [dict get $partition cell] -black_box
    }
    lock_design -level routing
    write_checkpoint -force checkpoints/static_locked.dcp
    dict for {name partition} [of partitions] {
        update_design -cell [dict get $partition cell] -buffer_ports
    }
    place_design
    route_design
    write_checkpoint -force checkpoints/empty_routed.dcp
    close_project
    set note [open checkpoints/shell.txt w]
    puts $note [of shell]
    close $note
}

# A later configuration: new partitions in the locked static part of `base`, the others as they are there.
proc implement_change {base variant changed} {
    open_checkpoint [file join $base checkpoints/static_locked.dcp]
    dict for {name partition} [of partitions] {
        set cell [dict get $partition cell]
        if {$name in $changed} {
            read_checkpoint -cell $cell checkpoints/${name}_synth.dcp
        } else {
            read_checkpoint -cell $cell [file join $base checkpoints/${name}_routed.dcp]
            lock_design -level routing [get_cells $cell]
        }
    }
    place_and_route $variant
    write_checkpoint -force checkpoints/${variant}_routed.dcp
    foreach name $changed {
        write_checkpoint -force -cell [of partitions $name cell] checkpoints/${name}_routed.dcp
    }
    close_project
}

proc check_shell {base} {
    set path [file join $base checkpoints/shell.txt]
    if {![file exists $path]} {
        error "$base holds no finished base: run its scripts/base.tcl first"
    }
    set note [open $path]
    set shell [string trim [read $note]]
    close $note
    if {$shell ne [of shell]} {
        error "$base has the static part $shell, this change was made for [of shell]: build a new base"
    }
}

# Two configurations may only be exchanged when their static parts are the same to the last wire.
proc verify {first other} {
    set report reports/[file rootname [file tail $other]]_pr_verify.rpt
    pr_verify -full_check -initial $first -additional $other -file $report
    if {[file exists $report]} {
        set note [open $report]
        set text [read $note]
        close $note
        if {[regexp -nocase {not compatible|incompatible} $text]} {
            error "pr_verify refuses $other: see $report"
        }
    }
}

# UltraScale takes a clearing bitstream of the module that leaves before the one that comes.
proc write_partial {name variant} {
    set file bitstreams/${variant}_${name}_partial.bit
    write_bitstream -force -cell [of partitions $name cell] $file
    if {[of family] eq "ultrascale" && [llength [glob -nocomplain bitstreams/${variant}_${name}_partial*clear*.bit]] == 0} {
        error "Vivado wrote no clearing bitstream beside $file: check that [of part] is an UltraScale device"
    }
}

proc write_bitstreams {variant names} {
    open_checkpoint checkpoints/${variant}_routed.dcp
    foreach name $names {
        write_partial $name $variant
    }
    if {$variant ne "empty"} {
        write_bitstream -force -no_partial_bitfile bitstreams/${variant}.bit
        write_memory_maps $variant
    }
    close_project
}
