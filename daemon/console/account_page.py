"""My account: who I am here, my password, my tokens; for admins, those of others too.

Refuses to know how credentials are kept; every act is in the name of who is logged in at that moment.
"""

from collections.abc import Callable, Sequence
from typing import Final

from nicegui import run, ui

from daemon.access.browsers import session_cookie
from daemon.access.passwords import MAXIMUM_LENGTH
from daemon.access.people import Person
from daemon.access.records import TokenRecord
from daemon.access.roles import Act, rights
from daemon.console.layout import Visit, heading, still_logged_in
from daemon.console.live import Live
from daemon.console.wording import date_and_clock
from daemon.errors import DaemonError, InvalidChoice
from daemon.process.services import Services

_DAYS: Final = {7: "7 days", 30: "30 days", 90: "90 days", 366: "1 year"}


async def build(visit: Visit, services: Services) -> None:
    """Fill the page of whoever looks at it."""
    await _AccountPage(visit, services).build()


class _AccountPage:
    def __init__(self, visit: Visit, services: Services) -> None:
        self._visit = visit
        self._services = services
        self._me = visit.operator
        self._manages = visit.may(Act.MANAGE_ACCESS)

    async def build(self) -> None:
        heading(self._me.full_name or self._me.name)
        acts = ", ".join(rights(self._me.role))
        ui.label(f"Logged in as {self._me.name}, role {self._me.role}. You may: {acts}.")
        if not self._me.declared:
            ui.label(
                "Single sign-on lets you in. Passwords and tokens are for people who are declared under "
                "[operators] in lumiwatch.toml."
            ).classes("lw-notice quiet")
        else:
            self._own_password()
        if self._manages:
            self._password_of_somebody()
        if self._me.declared or self._manages:
            with ui.element("section").classes("lw-panel").props('aria-label="Tokens"'):
                heading("Tokens for programs", 2)
                self._new_token()
                self._tokens = Live(self._fetch, self._show)
                await self._tokens.refresh()

    def _own_password(self) -> None:
        with ui.element("section").classes("lw-panel").props('aria-label="My password"'):
            heading("My password", 2)
            with ui.element("div").classes("lw-row"):
                current, new, again = (
                    _secret(words) for words in ("Present password", "New password", "The same again")
                )

            async def change() -> None:
                present, wanted = str(current.value or ""), _agreed(new, again)
                cookie = session_cookie(self._visit.cookies) or ""
                done = await self._do(
                    lambda who: self._services.logins.change_password(who, present, wanted(), keep=cookie),
                    "Your password is changed. Your other logins have ended.",
                )
                if done:
                    _empty(current, new, again)

            _button("Change my password", "key", change)

    def _password_of_somebody(self) -> None:
        access = self._services.access
        others = [one for one in access.people.everyone() if one.name != self._me.name]
        if not others:
            return
        with ui.element("section").classes("lw-panel").props('aria-label="Passwords of others"'):
            heading("Passwords of others", 2)
            with ui.element("div").classes("lw-row"):
                person = _choice("Whose password", others)
                new, again = _secret("Password for them"), _secret("Password for them, again")

            async def change() -> None:
                name, wanted = str(person.value), _agreed(new, again)

                def act(who: str) -> None:
                    access.check(who, Act.MANAGE_ACCESS)
                    access.set_password(name, wanted(), by=who)

                if await self._do(act, f"The password of {name} is set. Their earlier logins have ended."):
                    _empty(new, again)

            _button("Set their password", "key", change)

    def _new_token(self) -> None:
        access = self._services.access
        with ui.element("div").classes("lw-row"):
            everyone = sorted(access.people.everyone(), key=lambda one: one.name != self._me.name)
            person = _choice("Whose token", everyone) if self._manages else None
            purpose = ui.input("What it is for").props("outlined dense maxlength=80")
            days = ui.select(_DAYS, value=30, label="Good for").props("outlined dense")
            days.style("min-width:140px")
        shown = ui.label().classes("lw-pre").props('aria-live="polite"')
        shown.set_visibility(False)

        async def create() -> None:
            owner = self._me.name if person is None else str(person.value)
            words, length = str(purpose.value or "").strip(), float(days.value or 0)

            def act(who: str) -> None:
                access.check_owner(who, owner)
                if not words:
                    raise InvalidChoice("a token has a name: say what it is for")
                _, token = access.tokens.create(owner, words, days=length, by=who)
                made.append(token)

            made: list[str] = []
            if await self._do(act, "The token is made. Copy it now: it is never shown again."):
                shown.set_text(made[0])
                shown.set_visibility(True)
                purpose.set_value("")
                await self._tokens.refresh()

        _button("Make a token", "vpn_key", create)

    def _fetch(self) -> list[TokenRecord]:
        return self._services.access.tokens.listed(None if self._manages else self._me.name)

    def _show(self, found: list[TokenRecord]) -> None:
        if not found:
            ui.label("No token.").classes("lw-muted")
        for token in found:
            used = "never used" if token.used_at is None else f"last used {date_and_clock(token.used_at)}"
            with ui.element("div").classes("lw-row lw-spread"):
                ui.label(
                    f"{token.id}, {token.name} ({token.person}): good until "
                    f"{date_and_clock(token.ends_at)}, {used}"
                )
                self._revoke_button(token)

    def _revoke_button(self, token: TokenRecord) -> None:
        access = self._services.access

        async def revoke() -> None:
            def act(who: str) -> None:
                access.check_owner(who, token.person)
                access.tokens.revoke(token.id, by=who)

            if await self._do(act, f"{token.id} is revoked."):
                await self._tokens.refresh()

        ui.button("Revoke", icon="block", color="grey-8", on_click=revoke).classes("lw-button").props(
            f'unelevated aria-label="Revoke {token.id}"'
        )

    async def _do(self, act: Callable[[str], None], words: str) -> bool:
        """Act in the name of who is logged in now, and say what came of it."""

        def checked() -> None:
            act(still_logged_in(self._visit, self._services).name)

        try:
            await run.io_bound(checked)
        except DaemonError as error:
            ui.notify(f"Not accepted: {error}", type="negative", timeout=15_000, multi_line=True)
            return False
        ui.notify(words, type="positive")
        return True


def _choice(words: str, people: Sequence[Person]) -> ui.select:
    """Let somebody be chosen; the first one is to begin with."""
    names = {one.name: one.full_name or one.name for one in people}
    return (
        ui.select(names, value=people[0].name, label=words).props("outlined dense").style("min-width:220px")
    )


def _secret(words: str) -> ui.input:
    return ui.input(words, password=True).props(f"outlined dense maxlength={MAXIMUM_LENGTH}")


def _empty(*fields: ui.input) -> None:
    for field in fields:
        field.set_value("")


def _button(words: str, icon: str, act: Callable[[], object]) -> None:
    ui.button(words, icon=icon, color="blue-9", on_click=act).classes("lw-button").props("unelevated").style(
        "align-self:flex-start"
    )


def _agreed(new: ui.input, again: ui.input) -> Callable[[], str]:
    """Give the new password where it was typed twice alike, once it is asked for."""
    first, second = str(new.value or ""), str(again.value or "")

    def wanted() -> str:
        if first != second:
            raise InvalidChoice("the two new passwords are not the same: nothing was changed")
        return first

    return wanted
