"""The schema of the database: new, older, newer, unversioned, upgraded by several processes at once.

On SQLite and on PostgreSQL.
"""

import importlib
import io
import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, inspect, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlmodel import Session, SQLModel, col, select

from daemon.errors import DatabaseUnusable
from daemon.migrations import HEAD, VERSION_TABLE, recorded_version
from daemon.migrations.upgrade import VERSIONS, steps, upgrade
from daemon.migrations.versions import m0001_first_tables as first
from daemon.references.installation import Installation
from daemon.store.database import open_database
from streams.contracts.contract import load_contract
from streams.counting.summary import summarise
from streams.events.batch import Batch
from streams.judging.judge import MonitoredModel
from streams.store.history import closed_windows
from streams.store.records import BatchRow, WindowRow
from streams.store.windows import Outcome, WindowStore

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 5, 1, tzinfo=UTC)

for package in ("streams", "hw", "retrain", "daemon"):
    for path in (ROOT / package).rglob("*.py"):
        if "table=True" in path.read_text():
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """Return the URL of a database that nobody has opened yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/site.db"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def bare(url):
    """Return an engine of that database which makes nothing."""
    engine = create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def opened():
    """Return a function that opens a database as the service does; all are closed at the end."""
    engines = []

    def run(url):
        engines.append(open_database(url))
        return engines[-1]

    yield run
    for engine in engines:
        engine.dispose()


@pytest.fixture
def bare_site(site):
    """Return an engine of the site's database which makes nothing."""
    engine = create_engine(site.database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def versions(tmp_path):
    """Return a copy of the migrations, to which a test adds its own."""
    return Path(
        shutil.copytree(VERSIONS, tmp_path / "versions", ignore=shutil.ignore_patterns("__pycache__"))
    )


def version(engine):
    with engine.connect() as connection:
        return recorded_version(connection)


def script(versions=VERSIONS):
    return ScriptDirectory(str(versions.parent), version_locations=[str(versions)])


def draft(engine, metadata):
    """Write the migration from what the database is to what the models say: nothing, where they agree."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        operations = produce_migrations(context, metadata).upgrade_ops
    return "" if operations.is_empty() else render_python_code(operations)


def add_migration(versions, body):
    head = f'revision = "9001"\ndown_revision = "{HEAD}"\n\n\ndef upgrade():\n'
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (versions / "m9001_of_a_test.py").write_text(
        f"import sqlalchemy as sa\nfrom alembic import op\n\n{head}{lines}"
    )


def add_window_with_batch(engine):
    with Session(engine) as session:
        window = WindowRow(
            model="anomaly", run=1, lumisection=2, package="p", contract_hash="c", summary=b"s",
            opened_at=NOW, updated_at=NOW,
        )  # fmt: skip
        session.add(window)
        session.flush()
        place = {"model": "anomaly", "run": 1, "lumisection": 2, "source": "a", "sequence": 0}
        session.add(BatchRow(**place, digest=7, n_events=1, window_id=window.id))
        session.commit()


def add_batch_of_the_first_schema(engine, offset):
    tables = first.METADATA.tables
    place = {"model": "anomaly", "run": 1, "lumisection": offset}
    window = tables["stream_windows"].insert().values(
        **place, package="p", contract_hash="c", state="open", complete=False, simulated=False, n_batches=1,
        n_events=1, n_accept=0, late_events=0, assessed_events=0, revision=0, summary=b"s",
        opened_at=NOW, updated_at=NOW,
    )  # fmt: skip
    with engine.begin() as connection:
        (window_id,) = connection.execute(window).inserted_primary_key
        batch = {"stream": "s", "topic": "t", "partition": 0, "offset": offset, "source": "a", "n_events": 1}
        rows = tables["stream_batches"].insert()
        connection.execute(rows.values(**(place | {"lumisection": 2}), **batch, window_id=window_id))


def batches_in_windows(engine):
    with Session(engine) as session:
        return len(
            session.exec(select(BatchRow).join(WindowRow, col(WindowRow.id) == BatchRow.window_id)).all()
        )


def test_models_and_migrations_agree(url, opened):
    engine = opened(url)

    # whoever changed a model finds the migration that is missing in the failure of this line
    assert draft(engine, SQLModel.metadata) == ""
    assert version(engine) == HEAD


def test_a_model_without_its_migration_is_found(url, opened):
    changed = MetaData()
    for table in SQLModel.metadata.sorted_tables:
        table.to_metadata(changed)
    changed.tables["daemon_incidents"].append_column(Column("severity", Integer, nullable=True))

    assert "op.add_column('daemon_incidents', sa.Column('severity'" in draft(opened(url), changed)


def test_migrations_are_one_chain_that_ends_at_the_version_the_service_asks_for():
    chain = [step.revision.revision for step in steps(script(), None)]

    assert chain == [re.match(r"m(\d{4})_", path.name)[1] for path in sorted(VERSIONS.glob("m*.py"))]
    assert chain[-1] == script().get_current_head() == HEAD


def test_migrations_are_sql_that_postgresql_understands():
    sql = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": sql, "version_table": VERSION_TABLE}
    )
    with Operations.context(context):
        for step in steps(script(), None):
            step.migration_fn()

    written = sql.getvalue()
    assert {f"CREATE TABLE {name} (" in written for name in SQLModel.metadata.tables} == {True}
    assert {"SERIAL", "BYTEA", "TIMESTAMP WITH TIME ZONE"} <= set(
        re.findall(r"SERIAL|BYTEA|TIMESTAMP[A-Z ]+ZONE", written)
    )
    assert re.search(r"PRAGMA|AUTOINCREMENT|DATETIME|BLOB|INSERT OR", written) is None


def test_tables_of_other_programs_stay_as_they_are(url, bare, opened):
    others = MetaData()
    for name in ("workflow_status", "alembic_version", "stream_of_someone_else"):
        Table(name, others, Column("id", Integer, primary_key=True))
    others.create_all(bare)

    opened(url)

    assert set(others.tables) < set(inspect(bare).get_table_names())
    assert version(bare) == HEAD


def test_an_older_database_is_upgraded_with_what_it_holds(url, versions, opened):
    engine = opened(url)
    add_window_with_batch(engine)
    # a table that others point to is made anew on SQLite, which cannot alter a column
    add_migration(
        versions,
        'with op.batch_alter_table("stream_windows") as table:\n'
        '    table.add_column(sa.Column("note", sa.String(), nullable=True))\n'
        '    table.alter_column("package", type_=sa.Text())',
    )

    upgrade(engine, versions=versions)

    assert version(engine) == "9001"
    assert "note" in {column["name"] for column in inspect(engine).get_columns("stream_windows")}
    assert batches_in_windows(engine) == 1
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(text("DELETE FROM stream_windows"))


def test_a_migration_that_fails_leaves_the_database_as_it_was(url, versions, opened):
    engine = opened(url)
    add_window_with_batch(engine)
    add_migration(
        versions,
        'op.add_column("stream_windows", sa.Column("note", sa.String(), nullable=True))\n'
        'op.execute("DELETE FROM stream_batches")\n'
        'op.execute("SELECT * FROM no_such_table")',
    )

    with pytest.raises(SQLAlchemyError):
        upgrade(engine, versions=versions)

    assert version(engine) == HEAD
    assert draft(engine, SQLModel.metadata) == ""
    assert batches_in_windows(engine) == 1


def test_a_migration_cannot_leave_rows_that_point_nowhere(tmp_path, versions, opened):
    engine = opened(f"sqlite:///{tmp_path}/site.db")
    add_window_with_batch(engine)
    add_migration(versions, 'op.execute("DELETE FROM stream_windows")')

    with pytest.raises(DatabaseUnusable, match="stream_batches points to rows of stream_windows"):
        upgrade(engine, versions=versions)

    assert batches_in_windows(engine) == 1


def test_a_newer_database_is_refused(url, bare, opened):
    opened(url).dispose()
    with bare.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9001'"))

    with pytest.raises(
        DatabaseUnusable, match=r"schema 9001 of a newer lumiwatch.*install the lumiwatch that wrote it"
    ):
        open_database(url)

    assert version(bare) == "9001"


def test_a_database_from_before_versions_is_adopted_if_it_is_the_first_schema(url, bare, opened):
    first.METADATA.create_all(bare)
    for offset in (3, 4):
        add_batch_of_the_first_schema(bare, offset)

    engine = opened(url)

    assert version(engine) == HEAD
    assert batches_in_windows(engine) == 2
    with Session(engine) as session:
        assert sorted(session.exec(select(BatchRow.sequence)).all()) == [-2, -1]


def count_events(contract, inputs, sequence):
    """Count events as one batch of lumisection 2, in which all scores are 0."""
    batch = Batch(
        model="anomaly", contract_name=contract.name, contract_version=contract.version,
        contract_hash=contract.hash, run=1, lumisection=2, source="a", sequence=sequence, package="p",
        simulated=True, inputs=inputs, score=np.zeros(len(inputs), dtype=np.int32),
        accept=np.zeros(len(inputs), dtype=bool), input_names=contract.input_names,
    )  # fmt: skip
    return summarise(batch, contract, 5)


def old_summary(summary):
    """Write counts as lumiwatch did before batches had an identity (`LWSUM1`)."""
    layout = summary.layout
    counts = (summary.inputs, summary.score, summary.maps)
    header = {
        "model": "anomaly", "contract_hash": summary.contract_hash, "run": 1, "lumisection": 2,
        "package": "p", "sources": [["lumiwatch.batches", 0, 3]], "simulated": True,
        "n_events": summary.n_events, "n_accept": 0, "input_names": layout.input_names,
        "minimums": layout.minimums, "maximums": layout.maximums, "maps": layout.maps,
        "filled": [int(np.count_nonzero(each)) for each in counts],
    }  # fmt: skip
    text = json.dumps(header).encode()
    parts = [len(text).to_bytes(4, "little"), text]
    for each in counts:
        bins = np.flatnonzero(each)
        parts += [bins.astype("<u4").tobytes(), each[bins].astype("<i8").tobytes()]
    return b"LWSUM1" + zlib.compress(b"".join(parts))


def test_a_window_of_an_older_lumiwatch_goes_on_with_new_batches(url, bare, opened):
    # given a window of the first schema that holds one batch, open, in the format of then
    contract = load_contract(ROOT / "deploy" / "site" / "models" / "anomaly" / "contract.toml")
    rng = np.random.default_rng(1)
    lows, highs = ([getattr(spec, name) for spec in contract.inputs] for name in ("minimum", "maximum"))
    events = rng.integers(lows, np.array(highs) + 1, (80, len(lows)), dtype=np.int16)
    old, new = count_events(contract, events[:40], 0), count_events(contract, events[40:], 1)
    first.METADATA.create_all(bare)
    add_batch_of_the_first_schema(bare, 2)
    changed = first.METADATA.tables["stream_windows"].update()
    with bare.begin() as connection:
        connection.execute(changed.values(contract_hash=contract.hash, n_events=40, summary=old_summary(old)))

    # when it is upgraded and a new batch comes
    store = WindowStore(opened(url), models={"anomaly": MonitoredModel(contract)})
    outcomes = [store.fold_summaries([new], NOW)[0].outcome for _ in range(2)]

    # then it is counted once, in the same window, which closes with both
    assert outcomes == [Outcome.ADDED, Outcome.REPEATED]
    assert batches_in_windows(bare) == 2
    (verdict,) = store.sweep(NOW + timedelta(hours=1))
    assert verdict.n_events == 80
    (window,) = closed_windows(bare, "anomaly")
    assert np.array_equal(window.summary.inputs, count_events(contract, events, 2).inputs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE daemon_incidents DROP COLUMN instruction", "add column daemon_incidents.instruction"),
        ("ALTER TABLE daemon_events ADD COLUMN colour VARCHAR", "remove column daemon_events.colour"),
        ("DROP TABLE retrain_candidates", "add table retrain_candidates"),
        ("DROP INDEX ix_hw_packages_name", "add index ix_hw_packages_name"),
    ],
)
def test_a_database_from_before_versions_that_differs_is_refused_and_stays(url, bare, change, said):
    first.METADATA.create_all(bare)
    with bare.begin() as connection:
        connection.execute(text(change))

    with pytest.raises(
        DatabaseUnusable, match=rf"differ from schema 0001 \({said}\): move this database aside"
    ):
        open_database(url)

    assert version(bare) is None
    assert VERSION_TABLE not in inspect(bare).get_table_names()


def test_what_is_no_database_and_what_does_not_answer_is_said_with_the_cure(tmp_path):
    (tmp_path / "site.db").write_text("no database, though long enough to look like one" * 20)

    with pytest.raises(DatabaseUnusable, match=r"file is not a database; check that .* \(key `database_url`"):
        open_database(f"sqlite:///{tmp_path}/site.db")
    with pytest.raises(DatabaseUnusable, match=r"lumiwatch:\*\*\*@.*check that it answers") as caught:
        open_database("postgresql+psycopg://lumiwatch:secret@127.0.0.1:1/lumiwatch")
    assert "secret" not in str(caught.value)


OPEN_EACH = """
import sys
from daemon.store.database import open_database
print("ready", flush=True)
for url in sys.stdin:
    open_database(url.strip()).dispose()
    print("opened", flush=True)
"""


def test_processes_that_open_the_same_new_file_at_the_same_moment_all_succeed(tmp_path):
    urls = [f"sqlite:///{tmp_path}/site-{number}.db" for number in range(20)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_EACH],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    try:
        said = [{process.stdout.readline() for process in processes}]
        for url in urls:
            for process in processes:
                process.stdin.write(f"{url}\n")
                process.stdin.flush()
            said.append({process.stdout.readline() for process in processes})
    finally:
        for process in processes:
            process.communicate(timeout=60)

    assert said == [{"ready\n"}, *[{"opened\n"}] * len(urls)]
    assert [process.returncode for process in processes] == [0] * len(processes)
    for url in urls:
        engine = create_engine(url)
        assert (version(engine), draft(engine, SQLModel.metadata)) == (HEAD, "")
        engine.dispose()


def test_opening_a_database_that_is_up_to_date_imports_nothing_heavy(tmp_path, opened):
    url = f"sqlite:///{tmp_path}/site.db"
    opened(url)
    code = (
        f"import sys; from daemon.store.database import open_database; open_database({url!r}).dispose(); "
        "print([name for name in ('alembic', 'torch', 'scipy', 'pyarrow') if name in sys.modules])"
    )

    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True
    ).stdout

    assert found == "[]\n"


def test_the_wheel_carries_the_migrations(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip

    (wheel,) = tmp_path.glob("*.whl")
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("daemon/migrations/")}
    assert carried == {str(path.relative_to(ROOT)) for path in (ROOT / "daemon" / "migrations").rglob("*.py")}


@pytest.mark.slow
def test_a_worker_brings_a_new_site_up_to_date_before_it_starts(site_folder, bare_site):
    with Installation(site_folder) as installation:
        installation.start_worker()
        log = installation.site.state_dir / "logs" / "worker.log"
        deadline = time.monotonic() + 60
        while "starts on" not in log.read_text():
            installation.check()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)

    assert version(bare_site) == HEAD
    assert "daemon_incidents" in inspect(bare_site).get_table_names()
