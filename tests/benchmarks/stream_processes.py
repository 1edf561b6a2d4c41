"""The processes of the end-to-end benchmark: a producer, and a Faust agent that only reads. Measures nothing.

``python -m tests.benchmarks.stream_processes produce BOOTSTRAP PARTITIONS BATCHES EVENTS FIRST``
``python -m tests.benchmarks.stream_processes read BOOTSTRAP FOLDER``
"""

import sys
from collections import deque
from pathlib import Path

import faust
from kafka import KafkaProducer

from streams.engine_transport import use_transport
from streams.events.batch import encode_batch
from streams.topics import BATCHES
from streams.topology import BUFFERED_MESSAGES, MAX_MESSAGE_BYTES
from tests.benchmarks.events import example_contract, make_batch, sparse_inputs

BATCHES_PER_LUMISECTION = 50
FIRST_SEQUENCE = 1_000_000
MODEL = "anomaly"
MOST_UNDER_WAY = 16


def messages(first, n_batches, n_events):
    """Yield batches: the same events, with lumisections and sequences of their own."""
    contract = example_contract()
    inputs = sparse_inputs(contract, n_events)
    template = b""
    for number in range(first, first + n_batches):
        if number % BATCHES_PER_LUMISECTION == 0 or not template:
            lumisection = 1 + number // BATCHES_PER_LUMISECTION
            template = encode_batch(make_batch(contract, inputs, FIRST_SEQUENCE, lumisection))
        # as many digits as before: the message stays what it is
        yield template.replace(b"%d" % FIRST_SEQUENCE, b"%d" % (FIRST_SEQUENCE + number))


def produce(bootstrap, partitions, n_batches, n_events, first):
    """Send batches as fast as the client can, to the partitions in turn."""
    producer = KafkaProducer(
        bootstrap_servers=bootstrap,
        max_request_size=MAX_MESSAGE_BYTES,
    )
    under_way = deque()
    for number, message in enumerate(messages(first, n_batches, n_events)):
        under_way.append(
            producer.send(BATCHES, key=MODEL.encode(), value=message, partition=number % partitions)
        )
        if len(under_way) > MOST_UNDER_WAY:
            under_way.popleft().get(timeout=60)
    producer.flush()
    producer.close()


def read(bootstrap, folder):
    """Read the topic as a worker's agent does, and count only how many messages there were."""
    app = faust.App(
        "benchmark-reader",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        datadir=folder,
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=MAX_MESSAGE_BYTES,
        stream_buffer_maxsize=BUFFERED_MESSAGES,
        stream_wait_empty=False,
    )
    use_transport(app)
    topic = app.topic(BATCHES, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    count = Path(folder) / "count"
    seen = 0

    async def agent(stream):
        nonlocal seen
        async for _event in stream.events():
            seen += 1
            count.write_text(str(seen))

    app.agent(topic, name="read", concurrency=1)(agent)
    faust.Worker(
        app, override_logging=False, redirect_stdouts=False, quiet=True, workdir=folder
    ).execute_from_commandline()


def main(arguments):
    """Run one of the processes."""
    if arguments[0] == "produce":
        produce(arguments[1], *(int(argument) for argument in arguments[2:]))
    else:
        read(arguments[1], arguments[2])


if __name__ == "__main__":
    main(sys.argv[1:])
