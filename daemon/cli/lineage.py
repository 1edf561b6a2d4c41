"""`lumiwatch lineage`: from a firmware package (or anything else) back to ROOT files, on to the boards."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.tree import Tree

from daemon.cli.output import DEFAULT_SITE, JsonOption, SiteOption, out, print_json
from daemon.journal import lineage
from daemon.site.settings import load_site
from daemon.store.database import open_database
from daemon.store.views import LineageGraph

app = typer.Typer(no_args_is_help=True, help="What was made from what.")


@app.command()
def show(
    identity: Annotated[str, typer.Argument(help="Id, or its first characters, of any artefact.")],
    site: SiteOption = DEFAULT_SITE,
    descendants: Annotated[bool, typer.Option(help="Also show what was made from it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show everything an artefact was made from."""
    graph = lineage.trace(open_database(load_site(site).database_url), identity, descendants=descendants)
    if as_json:
        print_json(graph.model_dump(mode="json"))
    else:
        out.print(lineage_tree(graph))


class Format(StrEnum):
    """What a lineage is written as."""

    JSON = "json"
    RO_CRATE = "ro-crate"
    OPENLINEAGE = "openlineage"


@app.command()
def export(
    identity: Annotated[str, typer.Argument(help="Id, or its first characters, of any artefact.")],
    target: Annotated[
        Path, typer.Option("--out", help="The new file; a folder is what an RO-Crate's metadata may go into.")
    ],
    form: Annotated[Format, typer.Option("--format", help="OpenLineage: one event a line.")] = Format.JSON,
    site: SiteOption = DEFAULT_SITE,
) -> None:
    """Write everything an artefact was made from and what was made from it, up to the boards."""
    from daemon.journal import lineage_formats
    from daemon.process.services import installed_version
    from streams.events.dataset import write_atomically

    loaded = load_site(site)
    graph = lineage.whole_lineage(open_database(loaded.database_url), identity)
    names = {"site": loaded.name, "version": installed_version()}
    if form is Format.RO_CRATE:
        if target.is_dir():
            target /= lineage_formats.CRATE_FILE
        elif target.name != lineage_formats.CRATE_FILE:
            raise typer.BadParameter(
                f"an RO-Crate's metadata has the name {lineage_formats.CRATE_FILE}: give --out so"
            )
        text = _document(lineage_formats.ro_crate(graph, **names, now=datetime.now(UTC)))
    elif form is Format.OPENLINEAGE:
        events = lineage_formats.open_lineage(graph, **names)
        text = "".join(f"{json.dumps(event)}\n" for event in events)
    else:
        text = _document(graph.model_dump(mode="json"))
    write_atomically(target, text.encode())
    out.print(f"{target}: {len(graph.nodes)} artefacts", soft_wrap=True, markup=False)


@app.command()
def register(site: SiteOption = DEFAULT_SITE, as_json: JsonOption = False) -> None:
    """Bring the model registry of [mlflow] up to date now, as a running daemon does by itself."""
    from daemon.errors import SettingsError
    from daemon.mlflow.registry import bring_up_to_date
    from daemon.mlflow.server import MlflowServer
    from daemon.mlflow.versions import firmware

    loaded = load_site(site)
    server = MlflowServer.of_site(loaded)
    if server is None:
        raise SettingsError(f"{loaded.file}: names no MLflow server: set url under [mlflow]")
    engine = open_database(loaded.database_url)
    with closing(server):
        done = bring_up_to_date(server, engine, loaded, firmware(engine, loaded), datetime.now(UTC))
    if as_json:
        print_json({"url": server.url, "done": done})
        return
    for line in done or ["everything was there already"]:
        out.print(line, soft_wrap=True, markup=False)


def _document(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def lineage_tree(graph: LineageGraph) -> Tree:
    """Draw the ancestors of a graph's root as a tree; what appears twice is drawn once in full."""
    kinds = {node.id: node.kind for node in graph.nodes}
    parents: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for edge in graph.edges:
        parents[edge.child].append((edge.relation, edge.parent))
    drawn: set[str] = set()

    def grow(branch: Tree, identity: str) -> None:
        drawn.add(identity)
        for relation, parent in parents[identity]:
            label = f"[dim]{relation}[/dim] {_label(kinds[parent], parent)}"
            if parent in drawn:
                branch.add(f"{label} [dim](above)[/dim]")
            else:
                grow(branch.add(label), parent)

    tree = Tree(_label(kinds[graph.root], graph.root))
    grow(tree, graph.root)
    return tree


def _label(kind: str, identity: str) -> str:
    name, _, digest = identity.rpartition("@")  # files carry their name before their hash
    short = f"{name} sha256 {digest[:12]}" if name else identity[:12] if len(identity) == 64 else identity
    return f"[bold]{'ROOT file' if kind == 'root_file' else kind}[/bold] {short}"
