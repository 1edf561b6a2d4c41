"""What was made from what: found in both directions, and told in the forms of others."""

import itertools
import json
import re
import uuid
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine
from typer.testing import CliRunner

from daemon.cli.main import app
from daemon.errors import NotFound
from daemon.journal.lineage import Artefact, add_edge, trace, whole_lineage
from daemon.journal.lineage_formats import open_lineage, ro_crate
from daemon.site.settings import Site
from daemon.store.database import transaction
from hw.records import BoardOperationRecord
from tests.support.daemon import START

PACKAGE = Artefact("package", "ab" * 32)
TRAINING = Artefact("training", "cd" * 32)
DATASET = Artefact("dataset", "ef" * 32)
ROOT = Artefact("root_file", "HZZ.root")


@pytest.fixture
def history(engine: Engine) -> Engine:
    for _ in range(2):  # adding again changes nothing
        with transaction(engine) as session:
            for child, parent in ((PACKAGE, TRAINING), (TRAINING, DATASET), (DATASET, ROOT)):
                add_edge(session, child, parent, "made from", now=START)
    return engine


def test_a_package_leads_back_to_its_root_files(history: Engine):
    graph = trace(history, PACKAGE.id)

    assert [(node.kind, node.depth) for node in graph.nodes] == [
        ("package", 0),
        ("training", 1),
        ("dataset", 2),
        ("root_file", 3),
    ]
    assert len(graph.edges) == 3


def test_descendants_are_shown_when_asked(history: Engine):
    assert {node.kind for node in trace(history, DATASET.id).nodes} == {"dataset", "root_file"}
    assert trace(history, DATASET.id, descendants=True).nodes[-1].depth == -2


def test_the_beginning_of_an_id_is_enough(history: Engine):
    assert trace(history, PACKAGE.id[:12]).root == PACKAGE.id
    with pytest.raises(NotFound):
        trace(history, PACKAGE.id[:4])


def test_a_circle_ends(engine: Engine):
    with transaction(engine) as session:
        add_edge(session, PACKAGE, TRAINING, "a", now=START)
        add_edge(session, TRAINING, PACKAGE, "b", now=START)

    assert len(trace(engine, PACKAGE.id, descendants=True).nodes) == 2


def test_what_is_unknown_is_said(engine: Engine):
    with pytest.raises(NotFound, match="no artefact"):
        trace(engine, "0" * 64)


RESPONSE = Artefact("response", "anomaly-1-r1")
INCIDENT = Artefact("incident", "anomaly-1")
OLD = Artefact("package", "12" * 32)
REFERENCE = Artefact("reference", "34" * 32)
FILE = Artefact("root_file", f"run 3 <b>&.root@{'56' * 32}")


@pytest.fixture
def loop(engine: Engine) -> Engine:
    """Note a whole loop: a package retrained from recorded data, on a board; another board rolled back."""
    edges = (
        (DATASET, FILE, "converted from"),
        (TRAINING, DATASET, "trained on"),
        (TRAINING, RESPONSE, "asked for by"),
        (RESPONSE, INCIDENT, "answers"),
        (PACKAGE, TRAINING, "made from"),
        (PACKAGE, OLD, "succeeds"),
        (REFERENCE, PACKAGE, "describes"),
    )
    with transaction(engine) as session:
        for number, (child, parent, relation) in enumerate(edges):
            add_edge(session, child, parent, relation, now=START + timedelta(minutes=number))
        for board, outcome in (("b1:50001", "applied"), ("b2:50001", "applied"), ("b2:50001", "rolled_back")):
            session.add(
                BoardOperationRecord(
                    board=board, simulated=True, plan_kind="weights", from_package=OLD.id,
                    to_package=PACKAGE.id, outcome=outcome, reason="r", loaded_words=1, load_s=0, switch_s=0,
                    golden_events=1, golden_mismatches=0, done_at=START,
                )
            )  # fmt: skip
    return engine


def whole(engine: Engine):
    return whole_lineage(engine, TRAINING.id)


def test_a_lineage_goes_on_to_the_boards_that_run_the_firmware_now(loop: Engine):
    boards = {(edge.child, edge.parent) for edge in whole(loop).edges if edge.relation == "runs"}

    assert boards == {("b1:50001", PACKAGE.id), ("b2:50001", OLD.id)}  # the second was rolled back
    everything = {node.id for node in whole(loop).nodes}
    assert {node.id for node in whole_lineage(loop, FILE.id).nodes} == everything


def check_crate(crate: dict) -> dict[str, dict]:
    """Check what RO-Crate 1.1 asks of a metadata document; return its entities by id."""
    assert set(crate) == {"@context", "@graph"}
    assert crate["@context"] == "https://w3id.org/ro/crate/1.1/context"
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    assert len(entities) == len(crate["@graph"]), "an @id is given twice"
    for identity, entity in entities.items():
        assert identity
        assert isinstance(entity["@type"], str)
        for value in entity.values():  # flat: entities are only referred to
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, dict):
                    assert set(one) == {"@id"}
                    assert one["@id"] in entities or one["@id"].startswith("https://"), one
    descriptor = entities["ro-crate-metadata.json"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    root = entities[descriptor["about"]["@id"]]
    assert root["@id"].endswith("/")
    assert root["@type"] == "Dataset"
    assert root["name"]
    assert root["description"]
    datetime.fromisoformat(root["datePublished"])
    assert entities[root["license"]["@id"]]["name"]
    files = {identity for identity, entity in entities.items() if entity["@type"] == "File"}
    assert {part["@id"] for part in root["hasPart"]} == files
    for identity in files:  # not in the crate's folder: an absolute URI
        assert re.match(r"[a-z][a-z0-9+.-]*:", identity)
    for action in (entity for entity in entities.values() if entity["@type"] == "CreateAction"):
        assert {"name", "endTime", "instrument", "object", "result"} <= action.keys()
        datetime.fromisoformat(action["endTime"])
    return entities


def test_an_ro_crate_is_what_its_specification_asks_for(loop: Engine):
    entities = check_crate(ro_crate(whole(loop), site="Control room", version="1.2", now=START))

    kinds = Counter(entity.get("additionalType") for entity in entities.values())
    assert (kinds["package"], kinds["root_file"], kinds["board"], kinds["incident"]) == (2, 1, 2, 1)
    (file,) = [entity for entity in entities.values() if entity.get("additionalType") == "root_file"]
    assert (file["name"], file["identifier"]) == ("run 3 <b>&.root", "sha256:" + "56" * 32)
    made = [entity for entity in entities.values() if entity["@type"] == "CreateAction"]
    assert len(made) == len({edge.child for edge in whole(loop).edges})


def check_uri(value: str) -> None:
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+", value), value


def check_run_event(event: dict) -> None:
    """Check what OpenLineage 2-0-2 asks of a run event."""
    assert {"eventTime", "producer", "schemaURL", "run", "job"} <= event.keys()
    assert event["eventType"] in {"START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"}
    assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    check_uri(event["producer"])
    check_uri(event["schemaURL"])
    assert str(uuid.UUID(event["run"]["runId"])) == event["run"]["runId"]
    facets = [*event["run"].get("facets", {}).values()]
    for named in (event["job"], *event["inputs"], *event["outputs"]):
        assert isinstance(named["namespace"], str)
        assert isinstance(named["name"], str)
        facets += named.get("facets", {}).values()
    for facet in facets:
        check_uri(facet["_producer"])
        check_uri(facet["_schemaURL"])


def test_open_lineage_events_are_what_their_specification_asks_for(loop: Engine):
    events = open_lineage(whole(loop), site="Control room", version="1.2")

    for event in events:
        check_run_event(event)
    runs = Counter((event["run"]["runId"], event["eventType"]) for event in events)
    assert set(runs.values()) == {1}
    assert len({run for run, _ in runs}) * 2 == len(events)
    for first, then in itertools.pairwise(events):
        assert first["eventTime"] <= then["eventTime"]
    packages = [event for event in events if event["job"]["name"] == "make-package"]
    assert {data["name"] for event in events for data in event["outputs"]} >= {
        "board/b1:50001",
        "board/b2:50001",
    }
    assert [sorted(data["name"].split("/")[0] for data in event["inputs"]) for event in packages] == [
        ["package", "training"]
    ] * 2
    assert not [event for event in events if event["job"]["name"] in {"make-response", "make-incident"}]
    assert events == open_lineage(whole(loop), site="Control room", version="1.2")


def test_the_command_exports_each_form(loop: Engine, site: Site, tmp_path: Path):
    def export(form: str, target: Path) -> str:
        options = ["--format", form, "--out", str(target), "--site", str(site.folder)]
        done = CliRunner().invoke(app, ["lineage", "export", TRAINING.id[:12], *options])
        assert done.exit_code == 0, done.output
        return (target / "ro-crate-metadata.json" if target.is_dir() else target).read_text()

    graph = json.loads(export("json", tmp_path / "graph.json"))
    assert {node["kind"] for node in graph["nodes"]} >= {"root_file", "board", "package"}
    check_crate(json.loads(export("ro-crate", tmp_path)))
    for line in export("openlineage", tmp_path / "events.ndjson").splitlines():
        check_run_event(json.loads(line))
    wrong = CliRunner().invoke(
        app,
        [
            "lineage",
            "export",
            TRAINING.id,
            "--format",
            "ro-crate",
            "--out",
            "x.json",
            "--site",
            str(site.folder),
        ],
    )
    assert wrong.exit_code == 2
    assert not Path("x.json").exists()
