"""`lumiwatch hw ingest`: firmware of a model that was trained elsewhere."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli.output import (
    DEFAULT_SITE,
    JsonOption,
    ModelOption,
    SiteOption,
    out,
    print_json,
    progress,
)
from daemon.site.settings import load_site
from daemon.store.queries import firmware_model


class Score(StrEnum):
    """What becomes the score."""

    SQUARES = "sum_of_squares"
    LOGIT = "logit"


def ingest(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="QONNX file (.onnx).")],
    model: ModelOption,
    scaling: Annotated[
        Path, typer.Option(help='JSON, {"offset": ..., "scale": ...}: the network takes (code-offset)*scale.')
    ],
    site: SiteOption = DEFAULT_SITE,
    score: Annotated[Score, typer.Option(help="What becomes the score.")] = Score.SQUARES,
    output: Annotated[int, typer.Option(help="Which output is the logit, from 0.", min=0)] = 0,
    threshold: Annotated[float, typer.Option(help="Events whose score is above are accepted.")] = 0.0,
    events: Annotated[Path | None, typer.Option(help="Dataset whose events become golden vectors.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Build, bench and sign a package of a model that was trained elsewhere."""
    from daemon.references import ingesting
    from hw.ingest.target import IngestTarget

    loaded = load_site(site)
    offset, scale = ingesting.read_scaling(scaling)
    target = partial(
        IngestTarget,
        input_offset=offset,
        input_scale=scale,
        kind=score.value,
        output=output,
        threshold=threshold,
    )
    with progress("ingest") as report:
        made = ingesting.ingest(loaded, firmware_model(loaded, model), file, target, events, report)
    if as_json:
        facts = {"path": str(made.path), "file_sha256": made.file_sha256}
        print_json({**facts, **made.result.model_dump(mode="json")})
    else:
        out.print(f"package {made.package.id}\n{made.path}")
