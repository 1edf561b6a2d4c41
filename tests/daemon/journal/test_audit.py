"""The chain of hashes over what happened: every change is found, several processes make one chain."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, select, text
from typer.testing import CliRunner

from daemon.access.people import default_token_file
from daemon.cli.main import app
from daemon.errors import CheckFailed, DatabaseUnusable
from daemon.journal import audit_log
from daemon.journal.audit import GENESIS, Entry, Fault, Head, canonical, check_chain, digest
from daemon.journal.happenings import record_event
from daemon.migrations.upgrade import upgrade
from daemon.migrations.versions import m0001_first_tables as first
from daemon.store import queries
from daemon.store.database import open_database, transaction
from daemon.store.records import AuditHeadRecord, EventRecord
from tests.support.access import make_services, served

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 5, 1, 12, 0, 0, 250, tzinfo=UTC)
EVENTS = EventRecord.__table__
HEADS = AuditHeadRecord.__table__
N_EVENTS = 6


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/site.db"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def engine(url):
    opened = open_database(url)
    yield opened
    opened.dispose()


def happen(engine, n=N_EVENTS, at=NOW):
    for number in range(n):
        with transaction(engine) as session:
            record_event(
                session, "site.tested", f"Nº {number}", now=at + timedelta(seconds=number), actor="ada",
                model="anomaly", incident_id=f"anomaly-{number}", response_id="r", simulated=True,
                detail={"n": number, "rate": 0.1, "small": 1e-7, "pair": (1, 2), 3: "three"},
            )  # fmt: skip


def change(engine, statement):
    with engine.begin() as connection:
        connection.execute(statement)


def hash_anew(engine, number):
    """Edit an event and give it the hash that fits its new content."""
    with engine.begin() as connection:
        connection.execute(EVENTS.update().where(EVENTS.c.sequence == number).values(text="otherwise"))
        columns = [EVENTS.c[name] for name in Entry.__dataclass_fields__]
        row = connection.execute(select(*columns).where(EVENTS.c.sequence == number)).mappings().one()
        hashed = digest(Entry(**row))
        connection.execute(EVENTS.update().where(EVENTS.c.sequence == number).values(hash=hashed))
    return hashed


EDITS = {
    "id": "other",
    "at": NOW + timedelta(days=1),
    "kind": "site.other",
    "actor": "eve",
    "model": None,
    "incident_id": "anomaly-9",
    "response_id": None,
    "simulated": False,
    "text": "",
    "detail": {"n": 0},
    "previous": "f" * 64,
    "hash": "f" * 64,
}


def test_every_column_is_in_the_chain_but_for_the_one_that_says_what_kafka_has():
    assert {*EDITS, "sequence", "published"} == set(EVENTS.columns.keys())


@pytest.mark.parametrize("number", range(1, N_EVENTS + 1))
@pytest.mark.parametrize("column", EDITS)
def test_an_edit_of_any_column_of_any_event_is_found(tmp_path, column, number):
    engine = open_database(f"sqlite:///{tmp_path}/site.db")
    happen(engine)
    change(engine, EVENTS.update().where(EVENTS.c.sequence == number).values({column: EDITS[column]}))

    broken = audit_log.verify(engine).broken

    assert (broken.sequence, broken.fault) == (number, Fault.EDITED)
    engine.dispose()


def test_a_chain_that_nobody_touched_is_sound_on_either_database(engine):
    assert audit_log.verify(engine).sound
    happen(engine)
    report = audit_log.verify(engine)

    assert (report.sound, report.n_events, report.first, report.last) == (True, N_EVENTS, 1, N_EVENTS)


@pytest.mark.parametrize("number", range(1, N_EVENTS + 1))
def test_any_deletion_is_found(engine, number):
    happen(engine)
    change(engine, EVENTS.delete().where(EVENTS.c.sequence == number))

    broken = audit_log.verify(engine).broken

    assert (broken.sequence, broken.fault) == (number, Fault.MISSING)


@pytest.mark.parametrize("n_gone", range(1, N_EVENTS + 1))
def test_events_cut_off_at_the_end_are_found(engine, n_gone):
    happen(engine)
    change(engine, EVENTS.delete().where(EVENTS.c.sequence > N_EVENTS - n_gone))

    broken = audit_log.verify(engine).broken

    assert (broken.sequence, broken.fault) == (N_EVENTS - n_gone + 1, Fault.MISSING)


def test_two_events_in_each_others_place_are_found(engine):
    happen(engine)
    for one, other in ((2, 99), (5, 2), (99, 5)):
        change(engine, EVENTS.update().where(EVENTS.c.sequence == one).values(sequence=other))

    assert audit_log.verify(engine).broken.sequence == 2


@pytest.mark.parametrize("number", [-1, 0, N_EVENTS + 1])
def test_an_event_that_somebody_wrote_in_is_found(engine, number):
    happen(engine)
    with engine.begin() as connection:
        row = dict(connection.execute(select(EVENTS).where(EVENTS.c.sequence == 3)).mappings().one())
        connection.execute(EVENTS.insert().values(**{**row, "sequence": number, "id": "new"}))

    broken = audit_log.verify(engine).broken

    assert (broken.sequence, broken.fault) == (number, Fault.INSERTED)


@pytest.mark.parametrize("number", range(1, N_EVENTS + 1))
def test_an_event_edited_and_hashed_anew_is_named(engine, number):
    happen(engine)
    hash_anew(engine, number)

    broken = audit_log.verify(engine).broken

    assert (broken.sequence, broken.fault) == (number, Fault.EDITED)


def test_a_chain_made_anew_to_its_end_is_found_by_a_hash_noted_before(engine):
    happen(engine)
    noted = audit_log.verify(engine)
    change(engine, HEADS.update().values(hash=hash_anew(engine, N_EVENTS)))
    assert audit_log.verify(engine).sound

    broken = audit_log.verify(engine, {noted.last: noted.hash}).broken

    assert (broken.sequence, broken.fault) == (N_EVENTS, Fault.EDITED)


def test_a_noted_event_that_was_never_there_is_missing(engine):
    happen(engine)

    assert audit_log.verify(engine, {N_EVENTS + 1: "a" * 64}).broken.fault is Fault.MISSING


@pytest.mark.parametrize("column", ["sequence", "hash", "checkpoint_sequence", "checkpoint_hash"])
def test_an_edit_of_the_head_is_found(engine, column):
    happen(engine)
    change(engine, HEADS.update().values({column: 3 if "sequence" in column else "a" * 64}))

    assert not audit_log.verify(engine).sound


def test_without_its_head_the_chain_is_broken_and_takes_nothing(engine):
    happen(engine)
    change(engine, HEADS.delete())

    assert audit_log.verify(engine).broken.fault is Fault.MISSING
    with pytest.raises(DatabaseUnusable, match="head row"):
        happen(engine, 1)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE daemon_events SET at = 'yesterday' WHERE sequence = 3",
        "UPDATE daemon_events SET detail = '{' WHERE sequence = 3",
        "UPDATE daemon_events SET text = x'ff00' WHERE sequence = 3",
        "UPDATE daemon_events SET detail = '[1]' WHERE sequence = 3",
    ],
)
def test_what_is_no_event_any_more_is_an_edit(tmp_path, statement):
    engine = open_database(f"sqlite:///{tmp_path}/site.db")
    happen(engine)
    change(engine, text(statement))

    assert (audit_log.verify(engine).broken.sequence, audit_log.verify(engine).broken.fault) == (
        3,
        Fault.EDITED,
    )
    engine.dispose()


def prune(engine, before, at_most=1000, *, published_only=False):
    return audit_log.prune(engine, before, now=NOW, published_only=published_only, at_most=at_most)


def test_what_retention_takes_is_signed_off_and_the_rest_stays_proven(engine):
    happen(engine)

    assert prune(engine, NOW + timedelta(seconds=4)) == 4

    report = audit_log.verify(engine)
    assert (report.sound, report.first, report.last, report.pruned_up_to) == (True, 5, N_EVENTS + 1, 4)
    happen(engine, 2, at=NOW + timedelta(days=1))
    assert prune(engine, NOW + timedelta(hours=1), at_most=2) == 2
    assert prune(engine, NOW + timedelta(hours=1), at_most=9) == 1  # the first checkpoint: it is as old
    assert audit_log.verify(engine).sound
    assert prune(engine, NOW - timedelta(days=1)) == 0


def test_a_beginning_cut_off_with_a_forged_checkpoint_is_found(engine):
    happen(engine)
    with engine.begin() as connection:
        cut = connection.execute(select(EVENTS.c.hash).where(EVENTS.c.sequence == 3)).scalar()
        connection.execute(EVENTS.delete().where(EVENTS.c.sequence <= 3))
        connection.execute(HEADS.update().values(checkpoint_sequence=3, checkpoint_hash=cut))

    broken = audit_log.verify(engine).broken

    assert (broken.sequence, broken.fault) == (4, Fault.MISSING)
    assert "no audit.checkpoint event signs them off" in broken.text


def test_what_kafka_has_not_got_stays(engine):
    happen(engine)
    change(engine, EVENTS.update().where(EVENTS.c.sequence <= 2).values(published=True))

    assert prune(engine, NOW + timedelta(days=1), published_only=True) == 2
    assert audit_log.verify(engine).sound


def test_a_transaction_that_fails_leaves_no_gap(engine):
    happen(engine, 2)
    with engine.connect() as connection:  # rolled back at the end
        audit_log.append(connection, at=NOW, kind="site.tested", actor="ada", text="never", detail={})
    happen(engine, 2)

    report = audit_log.verify(engine)
    assert (report.sound, report.n_events, report.last) == (True, 4, 4)


WRITE = """
import sys
from datetime import UTC, datetime
from daemon.store.database import open_database, transaction
from daemon.journal.happenings import record_event
engine = open_database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    with transaction(engine) as session:
        record_event(session, "kind", f"{sys.argv[2]} {number}", now=datetime.now(UTC), actor=sys.argv[2])
"""


def test_processes_that_write_at_once_make_one_chain(engine, url):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, url, f"writer-{number}"], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for number in range(4)
    ]  # fmt: skip
    try:
        assert {writer.stdout.readline() for writer in writers} == {"ready\n"}
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        checked = [audit_log.verify(engine).sound for _ in range(5)]  # while they write
    finally:
        for writer in writers:
            writer.communicate(timeout=100)

    assert checked == [True] * 5
    assert [writer.returncode for writer in writers] == [0] * 4
    report = audit_log.verify(engine)
    assert (report.sound, report.n_events, report.last) == (True, 160, 160)
    for number in range(4):
        mine = queries.audit(engine, actor=f"writer-{number}")
        assert [event.text for event in mine] == [f"writer-{number} {n}" for n in range(40)]


def test_events_from_before_the_chain_become_its_beginning(url):
    bare = create_engine(url)
    first.METADATA.create_all(bare)
    old = first.METADATA.tables["daemon_events"]
    content = {"text": "é", "detail": {"b": [1.5, None], "a": 1}, "kind": "incident.note", "actor": "ada"}
    common = {**content, "at": NOW, "simulated": False, "published": True}
    # a server's numbers have gaps
    rows = [{"sequence": number, "id": str(number), **common} for number in (3, 4, 7)]
    change(bare, old.insert().values(rows))

    upgrade(bare)

    report = audit_log.verify(bare)
    assert (report.sound, report.n_events, report.last) == (True, 3, 7)
    change(bare, EVENTS.delete().where(EVENTS.c.sequence == 4))
    assert audit_log.verify(bare).broken.fault is Fault.MISSING
    bare.dispose()


def test_the_canonical_form_is_the_documented_one():
    entry = Entry(
        sequence=7, id="a1", at=datetime(2026, 5, 1, 14, tzinfo=UTC), kind="incident.note", actor="ada",
        model=None, incident_id="anomaly-1", response_id=None, simulated=False, text='Nº "1"',
        detail={"b": [1, 0.1, 1e-07, 1e16, True], "a": {}}, previous=GENESIS,
    )  # fmt: skip
    expected = (
        '{"actor":"ada","at":"2026-05-01T14:00:00.000000Z","detail":{"a":{},"b":[1,0.1,1e-07,1e+16,true]},'
        '"form":1,"id":"a1","incident_id":"anomaly-1","kind":"incident.note","model":null,'
        f'"previous":"{GENESIS}","response_id":null,"sequence":7,"simulated":false,'
        '"text":"N\\u00ba \\"1\\""}'
    )

    assert canonical(entry).decode() == expected
    assert digest(entry) == sha256(expected.encode()).hexdigest()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


SHORT = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r"}


def as_documented(value):
    """Write JSON by the words of docs/audit.md alone, as somebody else's program would."""
    if isinstance(value, dict):
        return (
            "{" + ",".join(f"{as_documented(key)}:{as_documented(value[key])}" for key in sorted(value)) + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(map(as_documented, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(map(letter_as_documented, value)) + '"'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value).replace("inf", "Infinity").replace("nan", "NaN")


def letter_as_documented(letter):
    number = ord(letter)
    if letter in '"\\':
        return "\\" + letter
    if number in SHORT:
        return "\\" + SHORT[number]
    if 0x20 <= number <= 0x7E:
        return letter
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


@given(st.text(), st.dictionaries(st.text(), json_values))
def test_a_program_that_follows_the_documentation_gets_the_same_hash(said, detail):
    entry = Entry(1, "a", NOW, "k", "ada", None, "anomaly-1", None, True, said, detail, GENESIS)
    content = {
        "form": 1, "sequence": 1, "id": "a", "at": "2026-05-01T12:00:00.000250Z", "kind": "k", "actor": "ada",
        "model": None, "incident_id": "anomaly-1", "response_id": None, "simulated": True, "text": said,
        "detail": detail, "previous": GENESIS,
    }  # fmt: skip

    assert sha256(as_documented(content).encode("ascii")).hexdigest() == digest(entry)


@given(
    st.lists(st.tuples(st.text(), st.dictionaries(st.text(), json_values, max_size=3)), min_size=1), st.data()
)
def test_whatever_the_content_a_chain_holds_and_any_other_content_breaks_it(contents, data):
    chain, before = [], GENESIS
    for number, (said, detail) in enumerate(contents, start=1):
        entry = Entry(number, str(number), NOW, "k", "a", None, None, None, False, said, detail, before)
        chain.append(replace(entry, hash=digest(entry)))
        before = chain[-1].hash
    head = Head(len(chain), before)
    read = [replace(entry, detail=json.loads(json.dumps(entry.detail))) for entry in chain]
    assert check_chain(read, head).sound

    place = data.draw(st.integers(0, len(chain) - 1))
    field = data.draw(st.sampled_from(["id", "kind", "actor", "text", "previous", "hash"]))
    other = data.draw(st.text().filter(lambda value: value != getattr(chain[place], field)))
    chain[place] = replace(chain[place], **{field: other})

    assert check_chain(chain, head).broken.sequence == place + 1


def test_the_command_says_sound_or_what_is_broken(site, monkeypatch):
    monkeypatch.setenv("LUMIWATCH_SITE", str(site.folder))
    engine = open_database(site.database_url)
    happen(engine)
    run = CliRunner().invoke

    sound = run(app, ["audit", "verify"])
    assert sound.exit_code == 0
    assert "sound: 6 events" in sound.output
    noted = sound.output.split()[-1]
    assert run(app, ["audit", "verify", "--expect", noted]).exit_code == 0
    assert json.loads(run(app, ["audit", "verify", "--json"]).output)["sound"] is True
    assert run(app, ["audit", "verify", "--expect", "x"]).exit_code == 2

    change(engine, EVENTS.update().where(EVENTS.c.sequence == 2).values(actor="eve"))
    broken = run(app, ["audit", "verify", "--json"])
    assert isinstance(broken.exception, CheckFailed)
    assert json.loads(broken.stdout)["broken"]["sequence"] == 2
    engine.dispose()


def test_the_command_shows_who_did_what_since_when(site, monkeypatch):
    monkeypatch.setenv("LUMIWATCH_SITE", str(site.folder))
    engine = open_database(site.database_url)
    happen(engine)
    with transaction(engine) as session:
        record_event(session, "incident.note", "later", now=NOW + timedelta(days=2), actor="grace")

    def shown(*options):
        events = json.loads(CliRunner().invoke(app, ["audit", "show", "--json", *options]).output)
        return [event["sequence"] for event in events]

    assert shown() == [1, 2, 3, 4, 5, 6, 7]
    assert shown("--actor", "grace") == shown("--since", "2026-05-02") == shown("--kind", "incident") == [7]
    assert shown("--limit", "2") == [6, 7]
    assert "later" in CliRunner().invoke(app, ["audit", "show", "--kind", "incident.note"]).output
    engine.dispose()


def test_the_api_lists_who_did_what_with_hashes(engine, site, clock):
    happen(engine)
    with served(make_services(engine, site, clock)) as service:
        token = default_token_file(site).read_text().strip()
        with service.client(token) as client:
            all_of_it = client.get("/api/v1/audit").json()
            late = client.get("/api/v1/audit", params={"since": "2026-05-01T12:00:04Z"}).json()
            nobody = client.get("/api/v1/audit", params={"actor": "grace"}).json()

    assert [event["sequence"] for event in all_of_it] == [1, 2, 3, 4, 5, 6]
    assert all_of_it[1]["previous"] == all_of_it[0]["hash"]
    assert [event["sequence"] for event in late] == [5, 6]
    assert nobody == []
