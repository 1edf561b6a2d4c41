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

import typer
from rich.markup import escape
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from daemon.cli import (
    access,
    audit,
    backtest,
    backup,
    board_acts,
    data,
    dead_letters,
    demo,
    firmware,
    histograms,
    incidents,
    ingest,
    lineage,
    reference_use,
    references,
    retrain,
    services,
    silences,
)
from daemon.cli.output import err
from daemon.errors import CheckFailed, DaemonError, DatabaseUnusable
from hw.errors import HardwareError
from retrain.errors import RetrainError
from streams.errors import StreamsError

_SURROUNDINGS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE,
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
}  # fmt: skip
"""What a machine may refuse: no fault of lumiwatch, so a line and no traceback."""

app = typer.Typer(
    name="lumiwatch",
    help="Watches the machine-learning models in FPGA triggers and closes the loop from drift to firmware.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(epilog=data.effects_help())(demo.demo)
app.command()(services.up)
app.command()(services.serve)
app.command()(services.worker)
app.command()(services.reload)
app.command()(services.login)
app.add_typer(access.users, name="users")
app.add_typer(access.tokens, name="tokens")
app.add_typer(services.config, name="config")
app.command()(data.convert)
app.command(epilog=data.effects_help())(data.replay)
app.command()(histograms.watch)
app.command(epilog=data.effects_help())(backtest.backtest)
app.command("dead-letters")(dead_letters.dead_letters)
references.app.command()(histograms.from_histograms)
references.app.command()(reference_use.approve)
references.app.command()(reference_use.retire)
app.add_typer(references.app, name="reference")
app.add_typer(incidents.app, name="incidents")
app.add_typer(silences.app, name="silences")
app.command()(incidents.approve)
app.command()(incidents.reject)
app.command("prescale-out")(incidents.prescale_out)
app.add_typer(retrain.app, name="retrain")
app.command()(firmware.train)
firmware.app.command()(board_acts.apply)
firmware.app.command()(board_acts.rollback)
firmware.app.command()(board_acts.scrub)
firmware.app.command()(ingest.ingest)
app.add_typer(firmware.app, name="hw")
app.add_typer(lineage.app, name="lineage")
app.add_typer(audit.app, name="audit")
app.command()(backup.backup)
app.command()(backup.restore)


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
    except SQLAlchemyError as error:
        _say(DatabaseUnusable(f"the database cannot be used ({_cause(error)}): check its disk and rights"))
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


def _cause(error: SQLAlchemyError) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return (str(cause).strip() or type(error).__name__).splitlines()[0]


def _say(error: Exception) -> None:
    line = " ".join(str(error).split())
    err.print(f"[bold red]lumiwatch:[/bold red] {escape(line)}", soft_wrap=True)
