"""`python -m daemon.cli` is the `lumiwatch` command; child processes are started this way."""

from daemon.cli.main import main

main()
