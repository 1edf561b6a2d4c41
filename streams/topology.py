"""The topology: which agent reads which topic and where its results go. Thin: the work is done elsewhere.

``summarise`` turns each batch into one summary, ``merge`` folds summaries into windows, ``conditions``
keeps conditions; closed windows become verdicts. Each agent handles its messages in order (`streams.lane`):
one is acknowledged after everything that follows from it is stored or delivered. What is wrong with a
message goes to the dead letters; what is wrong with the worker ends the process.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faust

from streams.broker.embedded import require_topics
from streams.broker.security import KafkaSecurity
from streams.counting.fill import kernels
from streams.engine_transport import use_transport
from streams.events.batch import MAX_BATCH_BYTES
from streams.events.recorder import Recorder, RecorderCounters
from streams.integrity import Emulators, IntegrityCheck
from streams.lane import Lane, Stage
from streams.pipeline import Pipeline, Topics, end_process
from streams.store.database import open_engine
from streams.store.records import require_tables
from streams.store.windows import WindowStore
from streams.topics import BATCHES, CONDITIONS, DEAD_LETTERS, SUMMARIES, VERDICTS
from streams.worker_settings import WorkerSettings
from streams.worker_status import REPORT_INTERVAL_S, Progress, Reporter

logger = logging.getLogger(__name__)

INPUTS = (BATCHES, SUMMARIES, CONDITIONS)
"""Topics that a worker reads."""
MAX_MESSAGE_BYTES = MAX_BATCH_BYTES + 64 * 1024
CLIENT_ID = "lumiwatch-worker"
_ASK_TIMEOUT_S = 5.0
BUFFERED_MESSAGES = 16
"""Messages that wait in front of an agent: batches can be as large as `MAX_BATCH_BYTES`."""
BATCHES_AT_ONCE = 8
SUMMARIES_AT_ONCE = 128


def build_app(settings: WorkerSettings, progress: Progress, emulators: Emulators | None = None) -> faust.App:
    """Build the app of one worker. Never start one app twice.

    Parameters
    ----------
    settings
        What the worker must know. The topics and the tables must exist.
    progress
        Told of everything that is handled.
    emulators
        Of the firmware packages, for the integrity check; None: events are not checked.

    Raises
    ------
    StreamsError
        A contract, the database or the broker cannot be used.
    """
    models = settings.monitored_models()
    engine = open_engine(settings.database_url)
    require_tables(engine)
    store = WindowStore(
        engine,
        models=models,
        waiting=settings.waiting,
    )
    recorder = Recorder(settings.recorder) if settings.recorder is not None else None
    integrity = None
    if emulators is not None:
        integrity = IntegrityCheck(emulators, prescale=settings.integrity_prescale)
    require_topics(settings.bootstrap, settings.security)
    kernels()  # compiled now: once in the group, a worker that stalls is taken for dead
    app = _app(settings)
    transport = use_transport(app)
    topics = Topics(
        summaries=_raw(app, SUMMARIES), verdicts=_raw(app, VERDICTS), dead_letters=_raw(app, DEAD_LETTERS)
    )
    pipeline = Pipeline(models, store, topics, recorder, integrity, progress)

    def handled(message: Any) -> None:
        transport.add(message)
        progress.handled(message)

    _add_agents(app, pipeline, topics, settings, handled)
    name = settings.instance or f"{socket.gethostname()}-{os.getpid()}"
    _add_reports(app, Reporter(engine, name, progress, lambda: _counted(pipeline, recorder, integrity)))
    return app


def _app(settings: WorkerSettings) -> faust.App:
    brokers = ";".join(f"kafka://{address.strip()}" for address in settings.bootstrap.split(","))
    return faust.App(
        settings.group,
        broker=brokers,
        broker_client_id=CLIENT_ID,
        broker_credentials=_credentials(settings.security),
        store="memory://",
        datadir=str(settings.state_dir / "faust"),
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=MAX_MESSAGE_BYTES,
        consumer_group_instance_id=settings.instance,
        producer_max_request_size=MAX_MESSAGE_BYTES,
        broker_commit_interval=1.0,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 3.0,
        broker_rebalance_timeout=1.0,
        stream_buffer_maxsize=BUFFERED_MESSAGES,
        stream_wait_empty=False,
    )


def _credentials(security: KafkaSecurity) -> Any:
    """Say it in the engine's words; None for the clear."""
    if security.uses_sasl:
        return faust.SASLCredentials(
            username=security.username,
            password=security.password(),
            ssl_context=security.ssl_context(),
            mechanism=security.mechanism,
        )
    return faust.SSLCredentials(security.ssl_context()) if security.uses_tls else None


def _raw(app: faust.App, name: str) -> Any:
    return app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def _add_agents(
    app: faust.App,
    pipeline: Pipeline,
    topics: Topics,
    settings: WorkerSettings,
    handled: Callable[[Any], None],
) -> None:
    for name, topic, stage in (
        ("summarise", _raw(app, BATCHES), Stage(pipeline.count, pipeline.deliver, BATCHES_AT_ONCE)),
        ("merge", topics.summaries, Stage(pipeline.read, pipeline.fold, SUMMARIES_AT_ONCE)),
        ("conditions", _raw(app, CONDITIONS), Stage(pipeline.read_conditions, pipeline.keep_conditions, 1)),
    ):
        # more than one at a time could commit past a message that is still being handled
        app.agent(topic, name=name, concurrency=1)(_in_a_lane(stage, handled))
    app.timer(settings.sweep_interval_s)(pipeline.sweep)


def _in_a_lane(stage: Stage[Any], handled: Callable[[Any], None]) -> Callable[[Any], Awaitable[None]]:
    async def agent(stream: Any) -> None:
        await Lane(stage, handled, end_process).run(stream)

    return agent


def _add_reports(app: faust.App, reporter: Reporter) -> None:
    """Let the worker say every few seconds how far it is behind; nothing waits for that."""
    writing = ThreadPoolExecutor(1, "lumiwatch-reports")
    begins: dict[tuple[str, int], int] = {}
    running = True

    async def report() -> None:
        if not running:
            return
        try:
            ends = await asyncio.wait_for(_ends(app, begins), _ASK_TIMEOUT_S)
            await asyncio.get_running_loop().run_in_executor(writing, reporter.report, ends, begins)
        except Exception as error:  # noqa: BLE001 - a status that is not written is missed by who reads it
            logger.warning("the status of this worker is not written: %s", str(error) or type(error).__name__)

    app.timer(REPORT_INTERVAL_S)(report)

    async def stopped(*_: Any, **__: Any) -> None:
        nonlocal running
        running = False
        await asyncio.get_running_loop().run_in_executor(writing, reporter.stopped)

    app.on_before_shutdown.connect(stopped)


def own_partitions(app: faust.App) -> set[tuple[str, int]]:
    """Return topic and partition of what an app reads now: nothing before it is in its group."""
    try:
        return {(place.topic, place.partition) for place in app.consumer.assignment()}
    except faust.exceptions.ConsumerNotStarted:
        return set()


async def _ends(app: faust.App, begins: dict[tuple[str, int], int]) -> Mapping[tuple[str, int], int]:
    """Ask the broker where this worker's partitions end; remember where it began to read each."""
    partitions = list(app.consumer.assignment())
    if not partitions:
        return {}
    ends = await app.consumer.highwaters(*partitions)
    for partition in partitions:
        if (partition.topic, partition.partition) not in begins:
            begins[partition.topic, partition.partition] = await app.consumer.position(partition) or 0
    return {(partition.topic, partition.partition): end for partition, end in ends.items()}


def _counted(
    pipeline: Pipeline, recorder: Recorder | None, integrity: IntegrityCheck | None
) -> dict[str, int]:
    """Return what a worker has done since it started, by the names under which it is exported."""
    done = dict(vars(pipeline.counters))
    kept = RecorderCounters() if recorder is None else recorder.counters
    done |= {f"dead_letters.{topic}": count for topic, count in pipeline.refused.items()}
    done |= {f"recorder_{name}": value for name, value in vars(kept).items()}
    done["integrity_failures"] = 0 if integrity is None else integrity.failures
    return done
