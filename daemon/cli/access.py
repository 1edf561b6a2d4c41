"""`lumiwatch users` and `tokens`: who may log in, with what. They work on the site's database.

Whoever may write that database is above all roles, so these commands ask for no token.
"""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.output import DEFAULT_SITE, JsonOption, SiteOption, out, print_json, print_table
from daemon.errors import InvalidChoice, SettingsError
from daemon.site.settings import load_site
from daemon.store.database import open_database

if TYPE_CHECKING:
    from daemon.access.control import AccessControl

users = typer.Typer(no_args_is_help=True, help="People: list, and give passwords.")
tokens = typer.Typer(no_args_is_help=True, help="API tokens: list, create, revoke.")
PersonArgument = Annotated[str, typer.Argument(metavar="NAME", help="As under [operators].")]


@users.command("list")
def list_users(site: SiteOption = DEFAULT_SITE, as_json: JsonOption = False) -> None:
    """List everybody whom lumiwatch.toml declares."""
    access = _access(site)
    changed = access.passwords.changed_at()
    counts: dict[str, int] = {}
    for token in access.tokens.listed():
        counts[token.person] = counts.get(token.person, 0) + 1
    found = [
        {
            "name": person.name,
            "full_name": person.full_name,
            "role": person.role.value,
            "password_changed_at": changed.get(person.name),
            "tokens": counts.get(person.name, 0),
        }
        for person in access.people.everyone()
    ]
    if as_json:
        print_json(found)
        return
    rows = [
        (one["name"], one["full_name"], one["role"], one["password_changed_at"] or "none", one["tokens"])
        for one in found
    ]
    print_table("people", ("name", "full name", "role", "password since", "tokens"), rows)


@users.command()
def password(
    name: PersonArgument,
    site: SiteOption = DEFAULT_SITE,
    password_file: Annotated[
        Path | None, typer.Option(help="File whose first line is the password; without it, it is asked for.")
    ] = None,
) -> None:
    """Give somebody a new password; their earlier logins end."""
    access = _access(site)
    access.declared(name)
    chosen = _typed_twice(name) if password_file is None else _first_line(password_file)
    access.set_password(name, chosen, by=_who())
    out.print(f"password of {name} is set; earlier logins have ended")


@tokens.command("list")
def list_tokens(
    site: SiteOption = DEFAULT_SITE,
    name: Annotated[str | None, typer.Option("--of", help="Only of this person.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the tokens that are not revoked, newest first."""
    access = _access(site)
    if name is not None:
        access.declared(name)
    found = [token.model_dump(exclude={"digest", "revoked_at"}) for token in access.tokens.listed(name)]
    if as_json:
        print_json(found)
        return
    rows = [
        (one["id"], one["person"], one["name"], f"{one['ends_at']:%Y-%m-%d}", one["used_at"] or "never")
        for one in found
    ]
    print_table("tokens", ("id", "person", "for", "good until", "last used"), rows)


@tokens.command()
def create(
    name: PersonArgument,
    site: SiteOption = DEFAULT_SITE,
    days: Annotated[float, typer.Option("--for", metavar="DAYS", help="How long it is good.")] = 90,
    purpose: Annotated[str, typer.Option("--name", help="What it is for.")] = "command line",
    as_json: JsonOption = False,
) -> None:
    """Make a token; it is printed now and never again."""
    access = _access(site)
    access.declared(name)
    record, token = access.tokens.create(name, purpose, days=days, by=_who())
    if as_json:
        print_json({**record.model_dump(exclude={"digest", "used_at", "revoked_at"}), "token": token})
        return
    typer.echo(token)
    typer.echo(
        f"{record.id} of {name}, good until {record.ends_at:%Y-%m-%d %H:%M} UTC; keep it now", err=True
    )


@tokens.command()
def revoke(
    token: Annotated[str, typer.Argument(metavar="ID", help="From `lumiwatch tokens list`.")],
    site: SiteOption = DEFAULT_SITE,
) -> None:
    """End a token for good."""
    _access(site).tokens.revoke(token, by=_who())
    out.print(f"token {token} is revoked")


def _access(site: Path) -> AccessControl:
    from daemon.access.control import AccessControl
    from daemon.operations import utc_now

    loaded = load_site(site)
    return AccessControl(open_database(loaded.database_url), loaded, utc_now)


def _who() -> str:
    """Name the account at the shell, so that it is taken for no declared person."""
    try:
        return f"shell:{getpass.getuser()}"
    except (KeyError, OSError):  # an account without a name, as in some containers
        return f"shell:{os.getuid()}"


def _typed_twice(name: str) -> str:
    first = typer.prompt(f"new password of {name}", hide_input=True, err=True)
    if typer.prompt("the same again", hide_input=True, err=True) != first:
        raise InvalidChoice("the two are not the same: nothing was changed")
    return str(first)


def _first_line(file: Path) -> str:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: no password can be read ({type(error).__name__})") from error
    if not lines:
        raise SettingsError(f"{file}: is empty; its first line is the password")
    return lines[0]
