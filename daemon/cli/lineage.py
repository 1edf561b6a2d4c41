"""`lumiwatch lineage show`: from a firmware package (or anything else) back to the ROOT files."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated

import typer
from rich.tree import Tree

from daemon import lineage
from daemon.cli.output import DEFAULT_SITE, JsonOption, SiteOption, out, print_json
from daemon.database import open_database
from daemon.settings import load_site
from daemon.views import LineageGraph

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
