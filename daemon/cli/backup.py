"""`lumiwatch backup` and `restore`: a site in one file, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli.output import DEFAULT_SITE, JsonOption, SiteOption, err, out, print_json


def backup(
    target: Annotated[Path, typer.Option("--out", help="The new file.")],
    site: SiteOption = DEFAULT_SITE,
    with_secrets: Annotated[
        bool, typer.Option(help="Also the signing key and the tokens in the state folder.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy a site into one file, while it runs; only its owner may read the file."""
    from daemon.site.settings import load_site
    from daemon.upkeep.backup import make_backup

    made = make_backup(load_site(site), target, with_secrets=with_secrets, now=datetime.now(UTC))
    members = made.manifest.members
    size = sum(member.bytes for member in members.values())
    if as_json:
        print_json({**made.manifest.model_dump(mode="json"), "file": str(target), "left_out": made.left_out})
    else:
        out.print(f"{target}: {len(members)} files, {size} bytes", soft_wrap=True, markup=False)
    for line in made.left_out:
        err.print(f"left out: {line}", soft_wrap=True, markup=False)


def restore(
    file: Annotated[Path, typer.Argument(help="From `lumiwatch backup`.")],
    site: SiteOption = DEFAULT_SITE,
    force: Annotated[
        bool, typer.Option(help="Over a site that is there; its files are moved aside.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a site back from a backup; everything is checked first."""
    from daemon.errors import CheckFailed
    from daemon.upkeep.restore import restore_backup

    restored = restore_backup(file, site, force=force, now=datetime.now(UTC))
    broken = restored.audit.broken
    if as_json:
        manifest = restored.manifest.model_dump(mode="json", exclude={"members"})
        print_json({**manifest, "state": str(restored.site.state_dir), "audit_sound": broken is None})
    else:
        place = f"{restored.site.name} is back in {restored.site.state_dir}"
        out.print(
            f"{place}, as of {restored.manifest.made_at:%Y-%m-%d %H:%M} UTC", soft_wrap=True, markup=False
        )
    if broken is not None:
        raise CheckFailed(f"the restored audit log is broken: {broken.text}")
