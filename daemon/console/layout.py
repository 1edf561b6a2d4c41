"""The frame of every page: header, navigation, theme, and who is looking. Knows no data of the site."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from nicegui import ui
from starlette.requests import Request

from daemon.access.people import Person
from daemon.access.roles import Act, may
from daemon.console.guard import session_person
from daemon.console.looks import Look, Palette, palette
from daemon.errors import NotAuthenticated
from daemon.process.services import Services

THEME_COOKIE = "lumiwatch_theme"
_LINKS = (
    ("/", "Wall"),
    ("/incidents", "Incidents"),
    ("/approvals", "Approvals"),
    ("/silences", "Silences"),
    ("/boards", "Boards"),
    ("/packages", "Packages"),
    ("/lineage", "Lineage"),
    ("/configuration", "Configuration"),
)


@dataclass(frozen=True)
class Visit:
    """One open page: who looks at it, in which colours.

    Parameters
    ----------
    operator
        Whose session opened the page.
    dark
        Dark ground (the default, for control rooms) or light.
    cookies
        Raw header, to look at the session again before a decision.
    """

    operator: Person
    dark: bool
    cookies: str

    def may(self, act: Act) -> bool:
        """Tell whether to offer an act; whether it is done is decided when it is asked for."""
        return may(self.operator.role, act)

    @property
    def colours(self) -> Palette:
        """Colours for plots."""
        return palette(dark=self.dark)


def visit_of(request: Request, services: Services) -> Visit:
    """Tell who opened a page.

    Raises
    ------
    NotAuthenticated
        Nobody: the guard lets no such request through, unless the session ended this very moment.
    """
    cookies = request.headers.get("cookie", "")
    operator = session_person(services.access, cookies)
    if operator is None:
        raise NotAuthenticated("the session has ended: log in again")
    return Visit(operator, request.cookies.get(THEME_COOKIE) != "light", cookies)


def still_logged_in(visit: Visit, services: Services) -> Person:
    """Look at the session again, because a page may stay open for days.

    Raises
    ------
    NotAuthenticated
        It has ended since.
    """
    operator = session_person(services.access, visit.cookies, seen=True)
    if operator is None:
        raise NotAuthenticated("the session has ended: log in again, nothing was decided")
    return operator


@contextmanager
def frame(visit: Visit, services: Services, *, title: str, path: str) -> Iterator[None]:
    """Draw header and navigation; what is made inside becomes the page.

    Parameters
    ----------
    visit, services
        Who looks, and at which site.
    title
        Of the browser's tab.
    path
        Of the current entry in the navigation, such as ``/incidents``.
    """
    ui.page_title(f"{title} - lumiwatch")
    ui.dark_mode(visit.dark)
    with ui.header().classes("lw-header"):
        link("Skip to the content", "#content").classes("lw-skip", remove="lw")
        link("lumiwatch", "/").classes("lw-brand", remove="lw")
        ui.label(services.site.name).classes("lw-site")
        with ui.element("nav").classes("lw-nav").props('aria-label="Main"'):
            for target, words in _LINKS:
                entry = link(words, target).classes(remove="lw")
                if target == path:
                    entry.props("aria-current=page")
        ui.space()
        who, role = visit.operator.full_name or visit.operator.name, visit.operator.role
        link(f"{role.capitalize()}: {who}", "/account").classes("lw-site")
        other = "light" if visit.dark else "dark"
        ui.button(
            f"{other.capitalize()} theme",
            icon="light_mode" if visit.dark else "dark_mode",
            on_click=lambda: ui.run_javascript(
                f"document.cookie = '{THEME_COOKIE}={other}; path=/; max-age=31536000; SameSite=Strict';"
                "location.reload()"
            ),
        ).props("flat dense no-caps color=inherit")
        with ui.element("form").props('action="/logout" method="post"'):
            ui.button("Log out", icon="logout").props("flat dense no-caps color=inherit type=submit")
    with ui.element("div").classes("lw-main").props('id="content" tabindex="-1"'):
        yield


def link(words: str, target: str) -> ui.element:
    """Make an ordinary link, reachable by keyboard."""
    with ui.element("a").classes("lw") as anchor:
        ui.label(words).style("display:inline")
    anchor.props["href"] = target  # not written into a list of properties: a name may hold a quote
    return anchor


def heading(words: str, level: int = 1) -> ui.element:
    """Make a heading that screen readers find."""
    with ui.element(f"h{level}").classes(f"lw-h{min(level, 2)}") as element:
        ui.label(words).style("display:inline")
    return element


def badge(look: Look) -> ui.element:
    """Show a state: icon, word and colour."""
    with ui.element("span").classes(f"lw-badge lw-fill-{look.tone}") as element:
        ui.icon(look.icon).props('aria-hidden="true"')
        ui.label(look.word)
    return element


def marks(*, simulated: bool) -> None:
    """Say that something is no live data."""
    if simulated:
        ui.label("REPLAY").classes("lw-mark")
        ui.label("SIMULATED DATA").classes("lw-mark")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Show a plain table of text."""
    with ui.element("div").classes("lw-scroll"), ui.element("table").classes("lw-table"):
        with ui.element("thead"), ui.element("tr"):
            for words in headings:
                with ui.element("th").props('scope="col"'):
                    ui.label(words)
        with ui.element("tbody"):
            for row in rows:
                with ui.element("tr"):
                    for cell in row:
                        with ui.element("td"):
                            ui.label(cell)
