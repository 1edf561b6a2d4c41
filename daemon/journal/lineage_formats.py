"""A lineage in the words of others: RO-Crate metadata and OpenLineage run events.

After https://w3id.org/ro/crate/1.1 and https://openlineage.io/spec/2-0-2/OpenLineage.json. Pure: it is handed
a graph. An artefact's name in both is made from its kind and id alone, so that exports of different days and
sites agree on it. Knows no database and no file.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from daemon.store.views import LineageEdge, LineageGraph

CRATE_FILE: Final = "ro-crate-metadata.json"
"""The name that an RO-Crate's metadata must have."""
_CRATE: Final = "https://w3id.org/ro/crate/1.1"
_RUN_EVENT: Final = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_VERSION_FACET: Final = (
    "https://openlineage.io/spec/facets/1-0-1/DatasetVersionDatasetFacet.json"
    "#/$defs/DatasetVersionDatasetFacet"
)
_NAMES: Final = uuid.UUID("6d2f5f5e-3f0c-5c0e-9f57-6f2f4d9b1a10")
_FILES: Final = frozenset({"root_file", "dqm_file", "dataset", "package", "reference"})
"""Kinds that are files; the others are described beside them."""
_TYPES: Final = {
    "training": "CreativeWork",
    "response": "Action",
    "incident": "Event",
    "run": "Event",
    "board": "IndividualProduct",
}
_NO_DATA: Final = frozenset({"response", "incident"})
_WORDS: Final = {"root_file": "ROOT file", "dqm_file": "DQM file"}


def ro_crate(graph: LineageGraph, *, site: str, version: str, now: datetime) -> dict[str, Any]:
    """Describe a lineage as an RO-Crate: what it holds are the files, and an action for everything made.

    Parameters
    ----------
    graph
        From `daemon.journal.lineage.trace`.
    site, version
        Name of the site and version of lumiwatch.
    now
        Aware UTC: when the description is published.
    """
    kinds = {node.id: node.kind for node in graph.nodes}
    entities = [_crate_entity(identity, kind) for identity, kind in sorted(kinds.items())]
    actions = [_action(child, edges, kinds) for child, edges in _makings(graph)]
    files = [entity for entity in entities if entity["@type"] == "File"]
    others = [entity for entity in entities if entity["@type"] != "File"]
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Lineage of {_label(kinds[graph.root], graph.root)}",
        "description": f"What {_label(kinds[graph.root], graph.root)} was made from, and what from it, as "
        f"recorded at {site}. The files themselves are not in this crate.",
        "datePublished": _time(now),
        "license": {"@id": "#license"},
        "hasPart": _references(files),
        "mentions": _references([*others, *actions]),
        "mainEntity": {"@id": _urn(kinds[graph.root], graph.root)},
    }
    descriptor = {
        "@id": CRATE_FILE,
        "@type": "CreativeWork",
        "conformsTo": {"@id": _CRATE},
        "about": {"@id": "./"},
    }
    license_ = {
        "@id": "#license",
        "@type": "CreativeWork",
        "name": "Not stated",
        "description": f"lumiwatch does not know under which terms these files may be used: ask {site}.",
    }
    software = {
        "@id": "#lumiwatch",
        "@type": "SoftwareApplication",
        "name": "lumiwatch",
        "softwareVersion": version,
    }
    return {
        "@context": f"{_CRATE}/context",
        "@graph": [descriptor, root, license_, software, *entities, *actions],
    }


def open_lineage(graph: LineageGraph, *, site: str, version: str) -> list[dict[str, Any]]:
    """Tell a lineage as OpenLineage run events, oldest first: a START and a COMPLETE for everything made.

    Parameters
    ----------
    graph, site, version
        As of `ro_crate`.
    """
    kinds = {node.id: node.kind for node in graph.nodes}
    producer = f"urn:lumiwatch:{version}"
    events = []
    for child, edges in _makings(graph):
        inputs = [edge.parent for edge in edges if kinds[edge.parent] not in _NO_DATA]
        if kinds[child] in _NO_DATA or not inputs:
            continue
        run = uuid.uuid5(_NAMES, f"made:{kinds[child]}:{child}")
        facet = {
            "_producer": producer,
            "_schemaURL": "urn:lumiwatch:facet:lineage:1",
            "artefact": {"kind": kinds[child], "id": child},
            "madeFrom": [
                {"kind": kinds[edge.parent], "id": edge.parent, "relation": edge.relation} for edge in edges
            ],
        }
        common = {
            "eventTime": _time(_when(edges)),
            "producer": producer,
            "schemaURL": _RUN_EVENT,
            "run": {"runId": str(run), "facets": {"lumiwatch_lineage": facet}},
            "job": {"namespace": f"lumiwatch://{_slug(site)}", "name": f"make-{kinds[child]}"},
            "inputs": [_data(identity, kinds[identity], site, producer) for identity in sorted(set(inputs))],
            "outputs": [_data(child, kinds[child], site, producer)],
        }
        events += [{"eventType": "START", **common}, {"eventType": "COMPLETE", **common}]
    return sorted(events, key=lambda event: str(event["eventTime"]))


def _makings(graph: LineageGraph) -> Iterator[tuple[str, list[LineageEdge]]]:
    """Give everything that was made, with the edges to what it was made from."""
    made: dict[str, list[LineageEdge]] = defaultdict(list)
    for edge in graph.edges:
        made[edge.child].append(edge)
    for child in sorted(made):
        yield child, sorted(made[child], key=lambda edge: (edge.relation, edge.parent))


def _crate_entity(identity: str, kind: str) -> dict[str, Any]:
    name, _, digest = identity.rpartition("@")
    return {
        "@id": _urn(kind, identity),
        "@type": "File" if kind in _FILES else _TYPES.get(kind, "Thing"),
        "name": name or _label(kind, identity),
        "identifier": f"sha256:{digest}" if name else identity,
        "additionalType": kind,
    }


def _action(child: str, edges: list[LineageEdge], kinds: dict[str, str]) -> dict[str, Any]:
    said = [f"{edge.relation} {_label(kinds[edge.parent], edge.parent)}" for edge in edges]
    return {
        "@id": f"#made-{uuid.uuid5(_NAMES, f'{kinds[child]}:{child}')}",
        "@type": "CreateAction",
        "name": f"{_label(kinds[child], child)}: {', '.join(said)}",
        "endTime": _time(_when(edges)),
        "instrument": {"@id": "#lumiwatch"},
        "object": [{"@id": _urn(kinds[edge.parent], edge.parent)} for edge in edges],
        "result": [{"@id": _urn(kinds[child], child)}],
    }


def _data(identity: str, kind: str, site: str, producer: str) -> dict[str, Any]:
    number = identity.rpartition("@")[2]
    version = {"_producer": producer, "_schemaURL": _VERSION_FACET, "datasetVersion": number}
    return {
        "namespace": f"lumiwatch://{_slug(site)}",
        "name": f"{kind}/{identity}",
        "facets": {"version": version},
    }


def _references(entities: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{"@id": entity["@id"]} for entity in entities]


def _when(edges: list[LineageEdge]) -> datetime:
    return max(edge.at or datetime.fromtimestamp(0, UTC) for edge in edges)


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _urn(kind: str, identity: str) -> str:
    return f"urn:uuid:{uuid.uuid5(_NAMES, f'{kind}:{identity}')}"


def _label(kind: str, identity: str) -> str:
    name, _, digest = identity.rpartition("@")
    short = name or (digest[:12] if len(digest) == 64 else digest)
    return f"{_WORDS.get(kind, kind)} {short}"


def _slug(site: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in site.lower()).split())
