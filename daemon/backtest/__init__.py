"""`lumiwatch backtest`: the run, its plots and its page."""
