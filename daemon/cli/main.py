"""Puts the commands together and turns errors into one clear line.

Exit codes: 0 done, 1 the check that a command made failed, 2 the input or the configuration is wrong.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any, Final

import typer
from rich.markup import escape
from typer.core import TyperGroup
from typer.main import get_command, get_group

from daemon.cli.output import err
from daemon.errors import CheckFailed, DaemonError, DatabaseUnusable
from hw.errors import HardwareError
from retrain.errors import RetrainError
from streams.errors import StreamsError

_COMMANDS: Final = {
    "demo": "demo:demo",
    "up": "services:up",
    "serve": "services:serve",
    "worker": "services:worker",
    "reload": "services:reload",
    "login": "services:login",
    "users": "access:users",
    "tokens": "access:tokens",
    "config": "services:config",
    "convert": "data:convert",
    "replay": "data:replay",
    "watch": "histograms:watch",
    "backtest": "backtest:backtest",
    "dead-letters": "dead_letters:dead_letters",
    "reference": "references:app",
    "incidents": "incidents:app",
    "silences": "silences:app",
    "approve": "incidents:approve",
    "reject": "incidents:reject",
    "prescale-out": "incidents:prescale_out",
    "retrain": "retrain:app",
    "train": "firmware:train",
    "hw": "firmware:app",
    "lineage": "lineage:app",
    "audit": "audit:app",
    "backup": "backup:backup",
    "restore": "backup:restore",
}
"""Command, or group of commands, and where it is: the module here, and its name in there."""
_FURTHER: Final = {
    "reference": ("histograms:from_histograms", "reference_use:approve", "reference_use:retire"),
    "hw": ("board_acts:apply", "board_acts:rollback", "board_acts:scrub", "ingest:ingest"),
}
"""Commands of a group that are in other modules than the group."""
_WITH_EFFECTS: Final = frozenset({"demo", "replay", "backtest"})
"""Commands whose help ends with how effects are written."""
_SURROUNDINGS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE,
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
}  # fmt: skip
"""What a machine may refuse: no fault of lumiwatch, so a line and no traceback."""


class _Commands(TyperGroup):
    """Loads a command when it is asked for: what all of them need takes seconds to load."""

    def list_commands(self, _context: object) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _context: object, name: str) -> Any:
        return _command(name) if name in _COMMANDS else None


app = typer.Typer(
    name="lumiwatch",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _lumiwatch() -> None:
    """Watches the machine-learning models in FPGA triggers and closes the loop from drift to firmware."""


@cache
def _command(name: str) -> Any:
    found = _load(_COMMANDS[name])
    if isinstance(found, typer.Typer):
        for further in _FURTHER.get(name, ()):
            found.command()(_load(further))
        command: Any = get_group(found)
    else:
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        alone.command(epilog=_load("data:effects_help")() if name in _WITH_EFFECTS else None)(found)
        command = get_command(alone)
    command.name = name
    return command


def _load(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(import_module(f"daemon.cli.{module}"), attribute)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the entry point of the distribution."""
    # systemd and containers stop with SIGTERM: leave every context in order, as after Ctrl-C
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # what a command has to say of a broker is in its own line; the daemon, which has a log, sets this anew
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    try:
        app(args=list(arguments) if arguments is not None else None)
    except CheckFailed as error:
        _say(error)
        sys.exit(1)
    except (DaemonError, StreamsError, HardwareError, RetrainError) as error:
        _say(error)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("stopped")
        sys.exit(130)
    except BrokenPipeError:
        # the reader of our output has gone: nothing more to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno not in _SURROUNDINGS:
            raise  # a fault of ours
        what = error.filename or "a file or its output"
        _say(DaemonError(f"{what}: {error.strerror}: check its disk, its folder and your rights"))
        sys.exit(2)
    except Exception as error:
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError

        if not isinstance(error, SQLAlchemyError):
            raise
        cause = error.orig if isinstance(error, DBAPIError) else error
        said = (str(cause).strip() or type(error).__name__).splitlines()[0]
        _say(DatabaseUnusable(f"the database cannot be used ({said}): check its disk and rights"))
        sys.exit(2)


def _say(error: Exception) -> None:
    line = " ".join(str(error).split())
    err.print(f"[bold red]lumiwatch:[/bold red] {escape(line)}", soft_wrap=True)
