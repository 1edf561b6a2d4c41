# What the scripts build; written by lumiwatch.
set firmware {
    part xcvu13p-flga2577-2-e
    family ultrascale+
    shell SHELL
    top lumiwatch_trial
    static_files {rtl/static/lumiwatch_shell.v rtl/static/lumiwatch_stubs.v rtl/static/lumiwatch_trial.v}
    partitions {
        p0 {
            cell shell/p0
            module lumiwatch_p0
            files {}
        }
        p1 {
            cell shell/p1
            module lumiwatch_p1
            files {rtl/p1/lumiwatch_p1.v rtl/p1/table.mem}
        }
    }
    memories {}
    changed {p1}
    variant retrained
}
