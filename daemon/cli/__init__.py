"""The `lumiwatch` command: one module per group of commands, put together in `daemon.cli.main`.

Commands import what they run when they run: torch, NiceGUI and ROOT readers take seconds to load, and
`lumiwatch incidents` at 3 a.m. needs none of them.
"""
