"""What must be there before the daemon can do its work, each asked in one short question. Starts nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import enumerate as running_threads

from sqlalchemy import func, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col

from daemon.process.consumer import VerdictConsumer
from daemon.process.services import Check
from daemon.site.settings import Site
from daemon.store.records import NotificationRecord, NotificationState


def database_check(engine: Engine) -> Check:
    """Ask whether the database answers."""

    def check() -> str | None:
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError as error:
            return f"does not answer: {str(error).splitlines()[0]}"
        return None

    return check


def broker_check(site: Site, consumer: VerdictConsumer | None) -> Check:
    """Ask whether verdicts can be read, and whether an embedded broker has room."""

    def check() -> str | None:
        if consumer is None:
            return "none configured: set kafka.bootstrap, or start with `lumiwatch up`"
        if consumer.problem is None and site.settings.kafka.bootstrap is not None:
            with suppress(FileNotFoundError):
                return site.broker_problem_file.read_text(encoding="utf-8")
        return consumer.problem

    return check


def chat_note(engine: Engine) -> Check:
    """Ask whether messages to people wait because a channel does not take them."""

    def note() -> str | None:
        refused = (
            select(func.count(), func.max(col(NotificationRecord.last_error)))
            .where(col(NotificationRecord.state) == NotificationState.PENDING)
            .where(col(NotificationRecord.attempts) > 0)
        )
        try:
            with engine.connect() as connection:
                count, error = connection.execute(refused).one()
        except SQLAlchemyError:
            return None  # the check of the database says so
        return f"{count} messages wait for the chat: {error}" if count else None

    return note


def liveness(names: Iterable[str], database: Check) -> Callable[[], str | None]:
    """Ask whether every thread that must run does, and whether the database answers.

    A thread counts as ended when it is missed twice: a reload exchanges some.
    """
    expected = frozenset(names)
    missed: frozenset[str] = frozenset()

    def problem() -> str | None:
        nonlocal missed
        before, missed = missed, expected - {thread.name for thread in running_threads()}
        ended = before & missed
        if ended:
            return f"thread {', '.join(sorted(ended))} has ended"
        found = database()
        return None if found is None else f"database {found}"

    return problem
