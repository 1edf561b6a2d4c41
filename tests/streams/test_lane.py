"""Messages are finished and acknowledged in order, in groups that are bounded, and none before its group."""

import asyncio
from dataclasses import dataclass

import pytest

from streams import lane as module
from streams.engine_transport import Handled
from streams.lane import Lane, Stage


@dataclass(frozen=True)
class Message:
    tp: str
    offset: int


@dataclass(frozen=True)
class Event:
    value: bytes
    message: Message


class Stream:
    """A stand-in for the engine's stream: yields events, then waits; keeps what is acknowledged."""

    def __init__(self, events):
        self.enable_acks = True
        self.acked = []
        self.taken = 0
        self._events = events

    async def events(self):
        for event in self._events:
            self.taken += 1
            yield event
        await asyncio.Event().wait()

    async def ack(self, event):
        self.acked.append(event.message.offset)


def events(number, size=10):
    return [Event(b"x" * size, Message("p", offset)) for offset in range(number)]


async def until(condition):
    async with asyncio.timeout(10):
        for _ in iter(lambda: bool(condition()), True):
            await asyncio.sleep(0)


def run(stream, stage, until_true, failures=None):
    handled = Handled()

    async def play():
        fail = (failures if failures is not None else []).append
        task = asyncio.create_task(Lane(stage, handled.add, lambda: fail(1)).run(stream))
        await until(until_true)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(play())
    return handled


async def passed_on(group):
    return list(group)


def test_messages_are_acknowledged_in_order_after_they_are_finished():
    stream, finished = Stream(events(40)), []

    async def finish(group):
        await asyncio.sleep(0)
        assert stream.acked == [event.message.offset for event in finished]
        finished.extend(group)

    handled = run(stream, Stage(passed_on, finish, 7), lambda: len(stream.acked) == 40)
    assert stream.acked == list(range(40))
    assert not stream.enable_acks
    assert handled.offset("p") == 40
    handled.forget(["p"])
    assert handled.offset("p") is None


def test_a_group_is_bounded_in_messages_and_bytes(monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    groups = []

    async def finish(group):
        groups.append(len(group))

    stream = Stream(events(30, size=40))
    run(stream, Stage(passed_on, finish, 50), lambda: len(stream.acked) == 30)
    assert max(groups) == 3
    groups.clear()
    stream = Stream(events(30, size=1))
    run(stream, Stage(passed_on, finish, 5), lambda: len(stream.acked) == 30)
    assert max(groups) == 5


def test_a_group_begins_while_the_one_before_is_finished():
    begun, together = [], []

    async def begin(group):
        begun.append(group[0].message.offset)
        return group

    async def finish(group):
        await until(lambda: begun[-1] > group[-1].message.offset or group[-1].message.offset == 9)
        together.append(begun[-1] - group[-1].message.offset)

    stream = Stream(events(10))
    run(stream, Stage(begin, finish, 1), lambda: len(stream.acked) == 10)
    assert together == [1] * 9 + [0]


def test_while_a_group_cannot_be_finished_no_more_than_three_groups_are_held():
    async def finish(_group):
        await asyncio.Event().wait()

    stream = Stream(events(1000))

    async def play():
        task = asyncio.create_task(Lane(Stage(passed_on, finish, 4), Handled().add, lambda: None).run(stream))
        for _ in range(2000):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(play())
    assert stream.acked == []
    assert stream.taken <= 3 * 4 + 1


@pytest.mark.parametrize("half", ["begin", "finish"])
def test_a_broken_lane_ends_the_worker_and_acknowledges_nothing(half):
    async def broken(_group):
        raise ZeroDivisionError

    async def finish(_group):
        return None

    stage = Stage(broken, finish, 1) if half == "begin" else Stage(passed_on, broken, 1)
    failures = []
    stream = Stream(events(1))
    run(stream, stage, lambda: failures, failures)
    assert failures == [1]
    assert stream.acked == []
