"""The `lumiwatch` command: one module per group of commands, put together in `daemon.cli.main`."""
