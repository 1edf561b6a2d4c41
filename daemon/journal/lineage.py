"""What was made from what: from firmware back to ROOT files, and from an incident to its firmware.

Edges are facts and never change; adding one twice is adding it once. Knows no room's internals.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.engine import Engine
from sqlmodel import Session, col, func, or_, select

from daemon.errors import NotFound
from daemon.store.records import LineageEdgeRecord
from daemon.store.views import LineageEdge, LineageGraph, LineageNode
from hw.records import LOADED, BoardOperationRecord

_MAXIMUM_NODES = 500
_SHORTEST_PREFIX = 6


@dataclass(frozen=True)
class Artefact:
    """Something with an identity: a package, training, dataset, reference, response, incident, ROOT file."""

    kind: str
    id: str


def run_artefact(model: str, run: int) -> Artefact:
    """Name one run of one model."""
    return Artefact("run", f"{model}/{run}")


def add_edge(session: Session, child: Artefact, parent: Artefact, relation: str, *, now: datetime) -> None:
    """Note that `child` was made from (or answers, was measured by, ...) `parent`."""
    known = session.exec(
        select(LineageEdgeRecord).where(
            LineageEdgeRecord.child == child.id,
            LineageEdgeRecord.parent == parent.id,
            LineageEdgeRecord.relation == relation,
        )
    ).first()
    if known is None:
        session.add(
            LineageEdgeRecord(
                child=child.id,
                child_kind=child.kind,
                parent=parent.id,
                parent_kind=parent.kind,
                relation=relation,
                at=now,
            )
        )


def trace(engine: Engine, identity: str, *, descendants: bool = False) -> LineageGraph:
    """Everything an artefact was made from.

    Parameters
    ----------
    identity
        Full id, or the beginning of one (at least 6 characters) when it names a single artefact.
    descendants
        Also follow what was made from it.

    Raises
    ------
    NotFound
        No artefact, or more than one, has this id.
    """
    with Session(engine) as session:
        root = _find(session, identity)
        nodes = {root.id: LineageNode(id=root.id, kind=root.kind, depth=0)}
        edges: dict[tuple[str, str, str], LineageEdge] = {}
        _walk(session, [root.id], nodes, edges, upwards=True)
        if descendants:
            _walk(session, [root.id], nodes, edges, upwards=False)
    ordered = sorted(nodes.values(), key=lambda node: (abs(node.depth), node.kind, node.id))
    return LineageGraph(root=root.id, nodes=ordered, edges=list(edges.values()))


def whole_lineage(engine: Engine, identity: str) -> LineageGraph:
    """Everything an artefact was made from, all that was made from it with what that needed, and the boards.

    A board is there if it runs one of the packages, by the last operation on it. Parameters and errors as of
    `trace`.
    """
    graph = trace(engine, identity, descendants=True)
    nodes = {node.id: node for node in graph.nodes}
    edges = {(edge.child, edge.parent, edge.relation): edge for edge in graph.edges}
    with Session(engine) as session:
        _walk(session, list(nodes), nodes, edges, upwards=True)
    return _with_boards(
        engine, LineageGraph(root=graph.root, nodes=list(nodes.values()), edges=list(edges.values()))
    )


def _with_boards(engine: Engine, graph: LineageGraph) -> LineageGraph:
    with Session(engine) as session:
        last = select(func.max(BoardOperationRecord.id)).group_by(BoardOperationRecord.board)
        operations = session.exec(
            select(BoardOperationRecord)
            .where(col(BoardOperationRecord.id).in_(last))
            .order_by(col(BoardOperationRecord.id))
        ).all()
    packages = {node.id: node for node in graph.nodes if node.kind == "package"}
    nodes, edges = list(graph.nodes), list(graph.edges)
    for operation in operations:
        loaded = operation.outcome in LOADED
        package = packages.get(operation.to_package if loaded else operation.from_package)
        if package is not None:
            at = operation.done_at
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
            nodes.append(LineageNode(id=operation.board, kind="board", depth=package.depth - 1))
            edges.append(LineageEdge(child=operation.board, parent=package.id, relation="runs", at=at))
    return LineageGraph(root=graph.root, nodes=nodes, edges=edges)


def _walk(
    session: Session,
    front: list[str],
    nodes: dict[str, LineageNode],
    edges: dict[tuple[str, str, str], LineageEdge],
    *,
    upwards: bool,
) -> None:
    depth = 0
    while front and len(nodes) < _MAXIMUM_NODES:
        depth += 1 if upwards else -1
        column = LineageEdgeRecord.child if upwards else LineageEdgeRecord.parent
        found = session.exec(select(LineageEdgeRecord).where(col(column).in_(front))).all()
        front = []
        for edge in found:
            edges[edge.child, edge.parent, edge.relation] = LineageEdge(
                child=edge.child, parent=edge.parent, relation=edge.relation, at=edge.at
            )
            end, kind = (edge.parent, edge.parent_kind) if upwards else (edge.child, edge.child_kind)
            if end not in nodes:
                nodes[end] = LineageNode(id=end, kind=kind, depth=depth)
                front.append(end)


def _find(session: Session, identity: str) -> Artefact:
    exact = session.exec(
        select(LineageEdgeRecord)
        .where(or_(LineageEdgeRecord.child == identity, LineageEdgeRecord.parent == identity))
        .limit(1)
    ).first()
    if exact is not None:
        kind = exact.child_kind if exact.child == identity else exact.parent_kind
        return Artefact(kind, identity)
    candidates = _beginning_with(session, identity) if len(identity) >= _SHORTEST_PREFIX else set()
    if not candidates:
        raise NotFound(
            f"no artefact {identity!r}: give the id of a package, training, dataset, reference or response"
        )
    if len(candidates) > 1:
        raise NotFound(f"{identity!r} names {len(candidates)} artefacts: give more characters of the id")
    return candidates.pop()


def _beginning_with(session: Session, prefix: str) -> set[Artefact]:
    found: set[Artefact] = set()
    ends: Iterable[tuple[object, object]] = (
        (LineageEdgeRecord.child, LineageEdgeRecord.child_kind),
        (LineageEdgeRecord.parent, LineageEdgeRecord.parent_kind),
    )
    for identity, kind in ends:
        rows = session.exec(
            select(col(kind), col(identity))
            .where(col(identity).startswith(prefix, autoescape=True))
            .distinct()
        ).all()
        found.update(Artefact(str(row[0]), str(row[1])) for row in rows)
    return found
