"""Backtests: the verdict chain over generated or recorded lumisections, its false alarms and its delays."""
