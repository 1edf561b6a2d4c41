"""Where an artefact comes from: from firmware back to ROOT files, as a drawing and as a list."""

import html
from collections import defaultdict
from urllib.parse import quote

from nicegui import run, ui

from daemon.console.layout import Visit, heading, link, table
from daemon.console.wording import short
from daemon.errors import NotFound
from daemon.journal.lineage import trace
from daemon.process.services import Services
from daemon.store import room_queries, views

_BOX_WIDTH, _BOX_HEIGHT, _GAP_X, _GAP_Y = 250, 58, 60, 26
_KINDS = {"root_file": "ROOT file"}

MOST_IN_COLUMN = 12
"""Boxes in one column: a dataset may come from hundreds of files."""


async def build(visit: Visit, services: Services, identity: str) -> None:
    """Fill the lineage page; without an id it asks for one and offers the packages."""
    del visit
    heading("Lineage")
    with (
        ui.element("form").props('action="/lineage" method="get" role="search"').classes("lw-row"),
        ui.element("label").classes("lw-row"),
    ):
        ui.label("Id of a package, training, dataset, reference, response or incident")
        ui.element("input").props(
            f'name="id" required minlength="3" size="44" value="{html.escape(identity, quote=True)}"'
        ).classes("lw-field")
        with ui.element("button").props('type="submit"').classes("lw-plain-button"):
            ui.label("Show")
    if not identity:
        await _offer(services)
        return
    try:
        graph = await run.io_bound(trace, services.engine, identity, descendants=True)
    except NotFound as error:
        ui.label(str(error)).classes("lw-notice quiet")
        await _offer(services)
        return
    if graph is None:  # the daemon is stopping
        return
    with ui.element("section").classes("lw-panel"):
        with ui.element("div").classes("lw-row"):
            heading(f"{_kind(graph)} {short(graph.root)}", 2)
            place = page_of(next(node for node in graph.nodes if node.id == graph.root))
            if place is not None:
                link("Its page", place)
        ui.label("Made from, to the right; made of it, to the left. Tab and Enter follow it.").classes(
            "lw-muted"
        )
        with ui.element("div").classes("lw-scroll"):
            ui.html(drawing(graph), sanitize=False)
    _list(graph)


async def _offer(services: Services) -> None:
    found = await run.io_bound(room_queries.packages, services.engine)
    with ui.element("section").classes("lw-panel"):
        heading("Packages of this site", 2)
        if not found:
            ui.label("None yet.").classes("lw-muted")
        for package in found or []:
            with ui.element("div").classes("lw-row"):
                link(short(package.id), f"/lineage?id={quote(package.id)}").classes("lw-mono")
                ui.label(f"{package.name} {package.version}")


def _kind(graph: views.LineageGraph) -> str:
    kind = next((node.kind for node in graph.nodes if node.id == graph.root), "artefact")
    return _KINDS.get(kind, kind).capitalize() if kind != "root_file" else "ROOT file"


def page_of(node: views.LineageNode) -> str | None:
    """Tell the address of an artefact's own page, where it has one."""
    identity = quote(node.id, safe="")
    if node.kind == "package":
        return f"/packages/{identity}"
    if node.kind == "incident":
        return f"/incidents/{identity}"
    if node.kind == "response":
        return f"/incidents/{quote(node.id.rpartition('-r')[0], safe='')}"
    if node.kind == "run":
        model, _, run = node.id.rpartition("/")
        return f"/models/{quote(model, safe='')}?run={quote(run)}"
    return None


def _list(graph: views.LineageGraph) -> None:
    with ui.element("section").classes("lw-panel"):
        heading("Every edge", 2)
        kinds = {node.id: _KINDS.get(node.kind, node.kind) for node in graph.nodes}
        rows = [
            (
                f"{kinds.get(edge.child, '')} {short(edge.child)}",
                edge.relation,
                f"{kinds.get(edge.parent, '')} {short(edge.parent)}",
            )
            for edge in graph.edges
        ]
        table(("artefact", "relation", "artefact"), rows)


def drawing(graph: views.LineageGraph) -> str:
    """Draw a lineage graph as SVG: one column per step away from the artefact asked for.

    Boxes are links in reading order; a column of very many shows the first, and how many more there are.

    Parameters
    ----------
    graph
        Nodes with their depth, and edges between them.
    """
    columns: dict[int, list[views.LineageNode]] = defaultdict(list)
    for node in graph.nodes:
        columns[node.depth].append(node)
    places: dict[str, tuple[int, int]] = {}
    boxes = []
    for position, depth in enumerate(sorted(columns)):
        x = position * (_BOX_WIDTH + _GAP_X) + 2
        for row, node in enumerate(columns[depth][:MOST_IN_COLUMN]):
            places[node.id] = (x, row * (_BOX_HEIGHT + _GAP_Y) + 2)
            boxes.append(_box(node, *places[node.id], chosen=node.id == graph.root))
        more = len(columns[depth]) - MOST_IN_COLUMN
        if more > 0:
            y = MOST_IN_COLUMN * (_BOX_HEIGHT + _GAP_Y) + 20
            boxes.append(f'<text x="{x}" y="{y}">and {more} more, see the list</text>')
    width = len(columns) * (_BOX_WIDTH + _GAP_X) - _GAP_X + 4
    rows = min(max(len(nodes) for nodes in columns.values()), MOST_IN_COLUMN + 1)
    height = rows * (_BOX_HEIGHT + _GAP_Y) - _GAP_Y + 4
    lines = "".join(_edge(edge, places) for edge in graph.edges)
    return (
        f'<svg class="lw-graph" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="group" aria-label="Lineage of {html.escape(short(graph.root), quote=True)}">'
        f"{lines}{''.join(boxes)}</svg>"
    )


def _edge(edge: views.LineageEdge, places: dict[str, tuple[int, int]]) -> str:
    if edge.child not in places or edge.parent not in places:
        return ""
    (x1, y1), (x2, y2) = places[edge.child], places[edge.parent]
    left, right = (x1 + _BOX_WIDTH, x2) if x1 < x2 else (x1, x2 + _BOX_WIDTH)
    middle = (left + right) / 2
    mid1, mid2 = y1 + _BOX_HEIGHT / 2, y2 + _BOX_HEIGHT / 2
    words = html.escape(edge.relation)
    curve = f"M{left},{mid1} C{middle},{mid1} {middle},{mid2} {right},{mid2}"
    return f'<path d="{curve}"><title>{words}</title></path>'


def _box(node: views.LineageNode, x: int, y: int, *, chosen: bool) -> str:
    kind, name = html.escape(_KINDS.get(node.kind, node.kind)), html.escape(_fitting(node.id))
    address = html.escape(f"/lineage?id={quote(node.id)}", quote=True)
    mark = ' class="chosen"' if chosen else ""
    return (
        f'<a href="{address}"><rect x="{x}" y="{y}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="8"'
        f'{mark}/><text class="kind" x="{x + 14}" y="{y + 23}">{kind}</text>'
        f'<text x="{x + 14}" y="{y + 44}">{name}</text></a>'
    )


def _fitting(identity: str) -> str:
    words = short(identity).rsplit("/", 1)[-1]
    return words if len(words) <= 28 else f"{words[:25]}..."
