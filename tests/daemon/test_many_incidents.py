"""Ten thousand incidents cost no more than ten: in statements, and in what the database looks at for them."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from sqlalchemy import event, text

from daemon.alerts.alertmanager import current_alerts
from daemon.console import wall
from daemon.incidents.silences import Silences
from daemon.site.settings import load_site
from daemon.store import queries
from daemon.store.database import open_database
from streams.judging.verdict import State
from tests.support.control_room import ControlRoom
from tests.support.daemon import HandClock, copy_site, make_verdict

MANY = 10_000
INSTRUCTIONS = 100
"""The database counts its virtual machine's instructions in steps of so many."""


@contextmanager
def control_room(folder):
    """Open a control room in a folder, with one open incident that everybody has heard of."""
    site = load_site(copy_site(folder))
    engine = open_database(site.database_url)
    room = ControlRoom(engine, site, HandClock())
    room.silence(1, family="range")
    room.alarm(62)
    room.follow(3)
    yield room
    room.close()
    engine.dispose()


def wall_of(room):
    services = SimpleNamespace(engine=room.engine, site=room.site, clock=room.clock)
    return wall.tiles(services, [], room.clock())


ACTS = {
    "alerts": lambda room: room.follow(1),
    "alertmanager": lambda room: current_alerts(room.engine, room.site, room.clock(), console_url=str),
    "wall": wall_of,
    "silenced": lambda room: Silences(room.engine, room.site, room.clock).quiet_incidents(),
    "list": lambda room: queries.incidents(room.engine, limit=5),
    "status": lambda room: queries.model_status(room.engine, room.site, "anomaly"),
    "extending alarm": lambda room: room.alarm(65),
    "recovery": lambda room: room.good(65),
    "verdict without incident": lambda room: room.take(make_verdict(65, State.GOOD)),
    "opening alarm": lambda room: room.take(make_verdict(65)),
}


@pytest.mark.parametrize("name", ACTS)
def test_no_act_costs_more(tmp_path, name):
    costs = []
    for count in (10, MANY):
        with control_room(tmp_path / str(count)) as room:
            add_resolved(room.engine, count)
            costs.append(cost(room, ACTS[name]))
    few, many = costs

    assert many[0] == few[0], "statements"
    assert many[1] <= 1.5 * few[1] + 5, "instructions of the database, in hundreds"


def cost(room, act):
    """Count the statements of an act, and what the database does for them."""
    statements, instructions = [], []

    def note(_connection, _cursor, statement, *_):
        statements.append(statement)

    def watch(connection, _record):
        connection.set_progress_handler(lambda: instructions.append(1), INSTRUCTIONS)

    room.engine.dispose()
    event.listen(room.engine, "connect", watch)
    event.listen(room.engine, "before_cursor_execute", note)
    act(room)
    event.remove(room.engine, "connect", watch)
    event.remove(room.engine, "before_cursor_execute", note)
    room.engine.dispose()
    return len(statements), len(instructions)


def add_resolved(engine, count):
    """Add resolved incidents of before, each with its messages."""
    before = {"state": "resolved", "opened_at": "2026-01-01 00:00:00", "resolved_at": "2026-01-02 00:00:00"}
    with engine.begin() as connection:
        numbers = range(2, count + 2)
        incidents = [{"id": f"old-{number}", "number": -number, **before} for number in numbers]
        copy(connection, "daemon_incidents", incidents)
        messages = [
            {"id": f"old-{number}", "key": f"old-{number}:opened", "incident_id": f"old-{number}"}
            for number in numbers
        ]
        copy(connection, "daemon_notifications", messages)


def copy(connection, table, changes):
    """Add the first row of a table again and again, each time with changes."""
    row = dict(connection.execute(text(f"SELECT * FROM {table} LIMIT 1")).mappings().one())
    names = ", ".join(row)
    places = ", ".join(f":{name}" for name in row)
    connection.execute(
        text(f"INSERT INTO {table} ({names}) VALUES ({places})"), [{**row, **change} for change in changes]
    )
