"""A part of a page that follows something: what it draws, and what it says when it cannot."""

import asyncio
import threading

import pytest
from nicegui import Client, ui
from nicegui.page import page

from daemon.console.live import Live
from daemon.errors import NotFound


def looking(fetch, show, looks):
    """Look so often; gives back what the page says of problems, after each look."""

    async def run():
        with Client(page("/nowhere"), request=None) as client:
            live = Live(fetch, show)
            said = []
            for _ in range(looks):
                await live.refresh()
                problem = next(one for one in client.elements.values() if "lw-notice" in one.classes)
                said.append(problem.text if problem.visible else None)
        client.delete()
        return said

    return asyncio.run(run())


def answers(*values):
    """Give values one after the other; errors are raised."""
    left = list(values)

    def fetch():
        value = left.pop(0)
        if isinstance(value, Exception):
            raise value
        return value

    return fetch


def test_only_what_changed_is_drawn():
    drawn = []

    said = looking(answers(1, 1, None, 2), drawn.append, 4)

    assert drawn == [1, 2]
    assert said == [None] * 4


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NotFound("no incident 'x'"), "no incident 'x'"),
        (OSError("disk"), "The database cannot be read (OSError)."),
        (ZeroDivisionError("1/0"), "This cannot be shown (ZeroDivisionError): the daemon's log says why."),
    ],
)
def test_what_cannot_be_read_is_said_and_what_is_shown_stays_until_it_can(error, words):
    drawn = []

    said = looking(answers(1, error, 2), drawn.append, 3)

    assert drawn == [1, 2]
    assert said == [None, f"{words} What you see below is old.", None]


def test_a_look_that_is_asked_for_during_another_is_made_when_that_has_ended():
    begun, asked = threading.Event(), threading.Event()
    choices, drawn = ["first"], []

    def fetch():
        chosen = choices[-1]
        begun.set()
        assert asked.wait(60)
        return chosen

    async def run():
        with Client(page("/nowhere"), request=None) as client:
            live = Live(fetch, drawn.append)
            first = asyncio.create_task(live.refresh())
            assert await asyncio.to_thread(begun.wait, 60)
            choices.append("second")
            await live.refresh()
            asked.set()
            await first
        client.delete()

    asyncio.run(run())

    assert drawn == ["first", "second"]


def test_a_part_is_emptied_before_it_is_drawn_anew():
    texts = []

    def show(number):
        label = ui.label(str(number))
        texts.append([child.text for child in label.parent_slot.children])

    looking(answers(1, 2), show, 2)

    assert texts == [["1"], ["2"]]
