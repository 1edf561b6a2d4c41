"""A registry learns which firmware runs and which waits; an outage holds nothing up and is made up for."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from daemon.cli.main import app
from daemon.errors import SettingsError
from daemon.incidents.intake import take_verdict
from daemon.journal.lineage import Artefact, add_edge
from daemon.mlflow.exporter import MlflowExport
from daemon.mlflow.registry import bring_up_to_date
from daemon.mlflow.server import MlflowAway, MlflowServer
from daemon.mlflow.versions import firmware
from daemon.responses.steps import BENCH, VERIFY
from daemon.site.mlflow_settings import MlflowSettings
from daemon.site.settings import load_site
from daemon.store.database import transaction
from daemon.store.records import ResponseRecord, ResponseState, ResponseStepRecord, StepState
from hw.records import BoardOperationRecord, record_package
from tests.support.daemon import make_verdict
from tests.support.hw import build_packages
from tests.support.mlflow_server import mlflow_server

TOKEN = "a-token-of-the-registry"


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    return build_packages(tmp_path_factory.mktemp("packages"), sizes=(57, 4, 2))


@pytest.fixture
def mlflow():
    with mlflow_server(TOKEN) as (url, fake):
        fake.url = url
        yield fake


@pytest.fixture
def site(site_folder, packages, mlflow):
    (site_folder / "token").write_text(f"{TOKEN}\n")
    (site_folder / "keys").mkdir()
    packages.key.trusted.write(site_folder / "keys" / "builder.pub")
    file = site_folder / "lumiwatch.toml"
    file.write_text(
        f'{file.read_text()}\n[mlflow]\nurl = "{mlflow.url}"\ntoken_file = "token"\n'
        '[hardware]\ntrusted_keys_dir = "keys"\nsigning_key_file = "key"\n'
    )
    (site_folder / "key").write_bytes(packages.key_path.read_bytes())
    (site_folder / "key").chmod(0o600)
    loaded = load_site(site_folder)
    loaded.state_dir.mkdir(exist_ok=True)
    return loaded


class Records:
    """What the site's other rooms would have written."""

    def __init__(self, engine, site, clock, packages):
        self.engine, self.site, self.clock, self.packages = engine, site, clock, packages

    def built(self, package, *, parent=None):
        with transaction(self.engine) as session:
            path = self.packages.folder / f"{package.manifest.version}.lwpkg"
            record = record_package(session, package, path, now=self.clock())
            record.name, record.parent_id = "anomaly", parent and parent.id
        self.clock.move(1)

    def loaded(self, package, before=None, outcome="applied"):
        before = before or package
        with transaction(self.engine) as session:
            session.add(
                BoardOperationRecord(
                    board="anomaly", simulated=False, plan_kind="weights", from_package=before.id,
                    to_package=package.id, outcome=outcome, reason="", loaded_words=1, load_s=0.0,
                    switch_s=0.0, golden_events=1, golden_mismatches=0, done_at=self.clock(),
                )
            )  # fmt: skip

    def answered(self, package, before):
        """A response has built and benched a candidate, and waits for the decision before the board."""
        take_verdict(self.engine, self.site, make_verdict(62, simulated=False), now=self.clock())
        with transaction(self.engine) as session:
            session.add(
                ResponseRecord(
                    id="anomaly-1-r9", number=9, incident_id="anomaly-1", model="anomaly",
                    state=ResponseState.RUNNING, requested_by="ada", created_at=self.clock(),
                    decided_by="egon", strategy="batchnorm", candidate_package=package.id,
                    previous_package=before.id, training_id="d" * 64,
                )
            )  # fmt: skip
            add_edge(
                session, Artefact("package", package.id), Artefact("training", "d" * 64), "made from",
                now=self.clock(),
            )  # fmt: skip
        self.step(BENCH, {"passed": True})

    def step(self, step, result):
        with transaction(self.engine) as session:
            session.add(
                ResponseStepRecord(
                    response_id="anomaly-1-r9", number=9, name=step.name, title=step.title,
                    state=StepState.DONE, result=result,
                )
            )  # fmt: skip

    def ended(self, state):
        with transaction(self.engine) as session:
            session.get(ResponseRecord, "anomaly-1-r9").state = state


@pytest.fixture
def records(engine, site, clock, packages):
    made = Records(engine, site, clock, packages)
    made.built(packages.first)
    made.loaded(packages.first)
    return made


@pytest.fixture
def export(engine, site, clock):
    registry = CollectorRegistry()
    made = MlflowExport(engine, site, registry, clock)
    made.value = registry.get_sample_value
    return made


def model(mlflow):
    return mlflow.models["anomaly"]


def standings(mlflow):
    return [one["tags"]["lumiwatch.standing"] for one in model(mlflow)["versions"]]


def test_the_firmware_that_runs_is_the_champion_with_its_file_and_its_bench(
    records, export, mlflow, packages
):
    assert export.look()

    (version,) = model(mlflow)["versions"]
    manifest = packages.first.manifest
    assert model(mlflow)["aliases"] == {"champion": "1"}
    tags = {key.removeprefix("lumiwatch."): value for key, value in version["tags"].items()}
    assert tags["package"] == packages.first.id
    assert (tags["structure"], tags["weights"], tags["contract"]) == (
        manifest.structure_hash,
        manifest.weights_hash,
        manifest.contract_hash,
    )
    assert (tags["site"], tags["bench"], tags["standing"]) == ("Example control room", "passed", "champion")
    run = mlflow.runs[version["run_id"]]
    assert (run["status"], run["tags"]["lumiwatch.package"]) == ("FINISHED", packages.first.id)
    assert run["metrics"]["bench.emulator.mismatching_bits"] == [0.0]
    assert run["metrics"]["bench.emulator.events"][0] > 1000
    file = records.packages.folder / "first.lwpkg"
    assert mlflow.files == {(version["run_id"], "first.lwpkg"): file.read_bytes()}

    asked = len(mlflow.requests)
    assert not export.look()
    assert len(mlflow.requests) == asked, "nothing had changed"


def test_a_candidate_is_the_challenger_until_it_is_verified(records, export, mlflow, packages):
    first, second = packages.first, packages.second
    records.built(second, parent=first)
    export.look()
    assert standings(mlflow) == ["champion"], "it has not passed its bench"

    records.answered(second, first)
    export.look()
    assert model(mlflow)["aliases"] == {"champion": "1", "challenger": "2"}
    tags = model(mlflow)["versions"][1]["tags"]
    assert (tags["lumiwatch.incident"], tags["lumiwatch.response"]) == ("anomaly-1", "anomaly-1-r9")
    assert (tags["lumiwatch.strategy"], tags["lumiwatch.decided_by"]) == ("batchnorm", "egon")
    assert tags["lumiwatch.run"] == "1, LS 61-62"

    records.loaded(second, first)
    export.look()
    assert model(mlflow)["aliases"] == {"champion": "1", "challenger": "2"}, "it is not verified yet"

    records.step(VERIFY, {"mean_accept_rate": 0.101, "expected_rate": 0.1})
    records.ended(ResponseState.SUCCEEDED)
    export.look()
    assert model(mlflow)["aliases"] == {"champion": "2"}
    assert standings(mlflow) == ["earlier", "champion"]
    run = mlflow.runs[model(mlflow)["versions"][1]["run_id"]]
    assert run["metrics"]["verification.mean_accept_rate"] == [0.101]


def test_what_was_rolled_back_is_no_challenger_and_no_champion(records, export, mlflow, packages):
    first, second = packages.first, packages.second
    records.built(second, parent=first)
    records.answered(second, first)
    records.loaded(second, first)
    export.look()

    records.loaded(first, second)
    records.ended(ResponseState.ROLLED_BACK)
    export.look()

    assert model(mlflow)["aliases"] == {"champion": "1"}
    assert standings(mlflow) == ["champion", "withdrawn"]


def test_an_outage_holds_nothing_up_is_counted_shown_and_made_up_for(records, export, mlflow, packages):
    mlflow.away = True
    assert not export.look()
    assert export.value("lumiwatch_mlflow_errors_total") == 1
    assert export.value("lumiwatch_mlflow_waiting_packages") == 1
    assert "was not told of 1 packages: " in export.note()
    assert "answered 503 to mlflow/registered-models/get: away" in export.note()
    assert not export.look()
    assert export.value("lumiwatch_mlflow_errors_total") == 1, "it was asked again at once"

    first, second = packages.first, packages.second
    records.built(second, parent=first)
    records.answered(second, first)
    records.loaded(second, first)
    records.ended(ResponseState.SUCCEEDED)
    mlflow.away = False
    records.clock.move(10)
    assert export.look()

    assert standings(mlflow) == ["earlier", "champion"]
    assert export.note() is None
    assert export.value("lumiwatch_mlflow_waiting_packages") == 0


@pytest.mark.parametrize("answered", range(1, 14))
def test_wherever_it_is_interrupted_nothing_is_registered_twice(
    records, engine, site, clock, mlflow, packages, answered
):
    mlflow.fail_after = answered
    server = MlflowServer.of_site(site)
    wanted = firmware(engine, site)
    try:
        bring_up_to_date(server, engine, site, wanted, clock())
    except MlflowAway:
        interrupted = True
    else:
        interrupted = False
    mlflow.fail_after, mlflow.away = None, False

    bring_up_to_date(server, engine, site, wanted, clock())
    assert bring_up_to_date(server, engine, site, wanted, clock()) == []

    server.close()
    assert interrupted == (answered < 12), "the number of requests has changed: adapt the range"
    assert (len(mlflow.runs), len(model(mlflow)["versions"])) == (1, 1)
    assert {run["status"] for run in mlflow.runs.values()} == {"FINISHED"}
    assert len(mlflow.files) == 1
    assert model(mlflow)["aliases"] == {"champion": "1"}


def test_a_registry_with_more_versions_than_a_page_is_known_whole(
    records, engine, site, clock, mlflow, packages
):
    export = MlflowExport(engine, site, CollectorRegistry(), clock)
    export.look()
    server = MlflowServer.of_site(site)
    others = mlflow.models["anomaly"]["versions"]
    others[:0] = [
        {"version": f"1{number}", "run_id": "", "tags": {}, "description": ""} for number in range(5)
    ]

    assert len(list(server.versions("anomaly"))) == 6
    assert bring_up_to_date(server, engine, site, firmware(engine, site), clock()) == []
    server.close()


def test_a_package_whose_file_is_gone_is_registered_without_it(records, export, mlflow, tmp_path):
    with transaction(records.engine) as session:
        record = record_package(session, records.packages.first, tmp_path / "gone.lwpkg", now=records.clock())
        record.name = "anomaly"

    export.look()

    assert mlflow.files == {}
    assert model(mlflow)["versions"][0]["tags"]["lumiwatch.file"] == "missing"


def test_the_command_says_what_it_did(records, site, mlflow):
    done = CliRunner().invoke(app, ["lineage", "register", "--site", str(site.folder)])
    assert done.exit_code == 0, done.output
    assert "anomaly version 1: package " in done.output
    assert "anomaly@champion: version 1" in done.output
    again = CliRunner().invoke(app, ["lineage", "register", "--site", str(site.folder), "--json"])
    assert '"done": []' in again.output

    mlflow.away = True
    refused = CliRunner().invoke(app, ["lineage", "register", "--site", str(site.folder)])
    assert isinstance(refused.exception, MlflowAway)


def test_a_wrong_token_is_said_and_never_shown(records, engine, site, clock, mlflow, caplog):
    mlflow.token = "another"
    export = MlflowExport(engine, site, CollectorRegistry(), clock)

    assert not export.look()

    assert "answered 401" in export.note()
    assert TOKEN not in export.note() + caplog.text


def test_a_reload_brings_a_server_and_takes_it_away(records, engine, site, clock, mlflow):
    def having(**changes):
        settings = MlflowSettings(**changes)
        return replace(site, settings=site.settings.model_copy(update={"mlflow": settings}))

    export = MlflowExport(engine, having(), CollectorRegistry(), clock)
    assert not export.look()
    with pytest.raises(SettingsError, match=r"mlflow\.token_file"):
        export.prepare(having(url=mlflow.url, token_file="nowhere"))

    export.prepare(site)()
    assert export.look()

    export.prepare(having())()
    assert not export.look()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('url = "mlflow:5000"', "give a URL such as"),
        ('url = "https://ada:secret@mlflow"', "give username and password_file instead"),
        ('username = "ada"', "username and password_file go together"),
        ('url = "http://mlflow.example.org"\ntoken_file = "t"', "would go in the clear"),
        ('prefix = "a/b"', "MLflow takes none of"),
    ],
)
def test_a_section_that_cannot_work_is_refused(site_folder, lines, words):
    file = site_folder / "lumiwatch.toml"
    file.write_text(f"{file.read_text()}\n[mlflow]\n{lines}\n")

    with pytest.raises(SettingsError, match=words) as refused:
        load_site(site_folder)

    assert "secret@" not in str(refused.value)


def test_a_failure_waits_longer_each_time_and_not_for_ever(records, export, mlflow):
    mlflow.away = True
    asked = []
    for _ in range(4000):
        before = export.value("lumiwatch_mlflow_errors_total")
        export.look()
        if export.value("lumiwatch_mlflow_errors_total") > before:
            asked.append(records.clock())
        records.clock.move(1)
    gaps = [after - before for before, after in pairwise(asked)]
    assert gaps[0] == timedelta(seconds=10)
    assert gaps == sorted(gaps)
    assert gaps[-1] == timedelta(seconds=600)
