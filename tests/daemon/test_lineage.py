import pytest
from sqlalchemy.engine import Engine

from daemon.database import transaction
from daemon.errors import NotFound
from daemon.lineage import Artefact, add_edge, trace
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
