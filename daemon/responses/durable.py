"""The durable engine under the responses: DBOS on the site's own database.

A response that waits, trains or verifies is taken up where it was after kill -9, a restart or an
upgrade. Knows nothing of what a response does (`response`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from threading import Event
from typing import Any

from dbos import DBOS, DBOSConfig, Serializer, SetWorkflowID
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from daemon.responses.procedure import ResponseProcedure
from daemon.store.records import ResponseRecord, ResponseState

logger = logging.getLogger(__name__)

PROTOCOL_VERSION = "response-1"
"""Version of the order of the steps. It is raised only when a change of `response` could not take up a
response that an older lumiwatch began; a new release of lumiwatch alone must not strand responses."""

_EXECUTOR = "lumiwatch"
_WORKFLOW = "respond"
_RUNS_AT_MOST = 1_000_000  # a response may wait through any number of restarts
_ERROR_KEY = "__error__"


class JsonSerializer(Serializer):
    """Keeps what passes between steps as JSON, so that reading the database can run no code."""

    def serialize(self, data: Any) -> str:
        """Encode plain data, or the name and message of an exception."""
        if isinstance(data, BaseException):
            data = {_ERROR_KEY: f"{type(data).__name__}: {data}"}
        return json.dumps(data, separators=(",", ":"))

    def deserialize(cls, serialized_data: str) -> Any:  # noqa: N805 - the name is the base class's
        """Decode plain data; an exception comes back as a `RuntimeError` with its message."""
        data = json.loads(serialized_data)
        if isinstance(data, dict) and _ERROR_KEY in data:
            return RuntimeError(data[_ERROR_KEY])
        return data

    def name(self) -> str:
        """Name the format in the database."""
        return "lumiwatch_json"


class DurableResponses:
    """Starts, wakes and takes up responses; there is one per process.

    Parameters
    ----------
    engine
        The site's database.
    database_url
        The same database, for the workflow engine's own tables.
    procedure
        What a response does.
    stopping
        The event that the procedure watches; set by `stop`.
    on_end
        Called with response id and final state when a response has ended.
    """

    def __init__(
        self,
        engine: Engine,
        database_url: str,
        procedure: ResponseProcedure,
        stopping: Event,
        on_end: Callable[[str, str], None] | None = None,
    ) -> None:
        self._engine = engine
        self._database_url = database_url
        self._procedure = procedure
        self._stopping = stopping
        self._on_end = on_end
        self._respond: Callable[[str], str] | None = None

    def launch(self) -> None:
        """Create the engine's tables, and take up every response that had not ended."""
        logging.getLogger("dbos").setLevel(logging.WARNING)
        config: DBOSConfig = {
            "name": "lumiwatch",
            "system_database_url": self._database_url,
            "application_version": PROTOCOL_VERSION,
            "executor_id": _EXECUTOR,
            "serializer": JsonSerializer(),
            "log_level": "WARNING",
            "run_admin_server": False,
        }
        DBOS(config=config)

        @DBOS.workflow(name=_WORKFLOW, max_recovery_attempts=_RUNS_AT_MOST)
        def respond(response_id: str) -> str:
            try:
                state = self._procedure.run(response_id, _run_step)
            except Exception as error:
                logger.exception("response %s broke off", response_id)
                state = self._procedure.give_up(response_id, f"unexpected {type(error).__name__}: {error}.")
            if self._on_end is not None:
                self._on_end(response_id, state)
            return state

        self._respond = respond
        DBOS.launch()
        self._start_forgotten()

    def start(self, response_id: str) -> None:
        """Run the workflow of a response; starting it twice is the same as once."""
        if self._respond is None:
            raise RuntimeError("launch() comes before start()")
        with SetWorkflowID(response_id):
            DBOS.start_workflow(self._respond, response_id)

    def wake(self, response_id: str = "") -> None:  # noqa: ARG002 - all waiting steps look, whichever changed
        """Let waiting responses look at the database at once."""
        self._procedure.wake()

    def forget(self, response_ids: Sequence[str]) -> None:
        """Forget the finished workflows of responses; one that is unknown is none to forget."""
        if self._respond is None:
            raise RuntimeError("launch() comes before forget()")
        DBOS.delete_workflows(list(response_ids))

    def stop(self) -> None:
        """Let running steps go and close the engine; unfinished responses are taken up at the next launch."""
        self._stopping.set()
        self._procedure.wake()
        DBOS.destroy(workflow_completion_timeout_sec=0, destroy_registry=True)
        self._respond = None

    def _start_forgotten(self) -> None:
        """Start responses whose record was written just before the process died."""
        with Session(self._engine) as session:
            waiting = session.exec(
                select(ResponseRecord.id).where(
                    col(ResponseRecord.state).in_(
                        [
                            ResponseState.PREPARING.value,
                            ResponseState.PROPOSED.value,
                            ResponseState.RUNNING.value,
                        ]
                    )
                )
            ).all()
        for response_id in waiting:
            if DBOS.get_workflow_status(response_id) is None:
                logger.info("starting response %s, left behind by an earlier process", response_id)
                self.start(response_id)


def _run_step(name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return DBOS.run_step({"name": name}, work)
