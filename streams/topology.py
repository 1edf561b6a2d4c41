"""The topology: which agent reads which topic and where its results go. Thin: the work is done elsewhere.

``summarise`` turns each batch into one summary, ``merge`` folds summaries into windows, ``conditions``
keeps conditions; closed windows become verdicts. One message at a time per agent: a message is
acknowledged after everything that follows from it is stored or delivered. What is wrong with a message
goes to the dead letters; what is wrong with the worker ends the process.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import faust

from streams.batch import MAX_BATCH_BYTES
from streams.database import open_engine
from streams.engine_transport import use_short_fetches
from streams.pipeline import Pipeline, Topics
from streams.recorder import Recorder, RecorderSettings
from streams.records import require_tables
from streams.topics import BATCHES, CONDITIONS, DEAD_LETTERS, SUMMARIES, VERDICTS
from streams.windows import WindowStore
from streams.worker_settings import WorkerSettings

MAX_MESSAGE_BYTES = MAX_BATCH_BYTES + 64 * 1024
BUFFERED_MESSAGES = 16
"""Messages an agent holds in memory: batches can be as large as `MAX_BATCH_BYTES`."""


def build_app(settings: WorkerSettings) -> faust.App:
    """Build the app of one worker. Never start one app twice.

    Parameters
    ----------
    settings
        What the worker must know. The topics and the tables must exist.

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
    recorder = None
    if settings.recent_dir is not None:
        recorder = Recorder(
            RecorderSettings(settings.recent_dir, settings.recorder_prescale, settings.recorder_max_bytes)
        )
    app = _app(settings)
    use_short_fetches(app)
    topics = Topics(
        summaries=_raw(app, SUMMARIES), verdicts=_raw(app, VERDICTS), dead_letters=_raw(app, DEAD_LETTERS)
    )
    pipeline = Pipeline(models, store, topics, recorder)
    _add_agents(app, pipeline, topics, settings)
    return app


def _app(settings: WorkerSettings) -> faust.App:
    brokers = ";".join(f"kafka://{address.strip()}" for address in settings.bootstrap.split(","))
    return faust.App(
        settings.group,
        broker=brokers,
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


def _raw(app: faust.App, name: str) -> Any:
    return app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def _add_agents(app: faust.App, pipeline: Pipeline, topics: Topics, settings: WorkerSettings) -> None:
    for name, topic, handle in (
        ("summarise", _raw(app, BATCHES), pipeline.summarise),
        ("merge", topics.summaries, pipeline.merge),
        ("conditions", _raw(app, CONDITIONS), pipeline.conditions),
    ):
        # more than one at a time could commit past a message that is still being handled
        app.agent(topic, name=name, concurrency=1)(_one_by_one(handle))
    app.timer(settings.sweep_interval_s)(pipeline.sweep)


def _one_by_one(handle: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    async def agent(stream: Any) -> None:
        async for event in stream.events():
            await handle(event)

    return agent
