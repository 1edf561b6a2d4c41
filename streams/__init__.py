"""From trigger data to verdicts. Knows no daemon, no torch and no FPGA."""
