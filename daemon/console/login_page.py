"""The page that asks to log in: plain HTML with its own style, because nothing else is shown to strangers.

Refuses to know who may log in.
"""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from urllib.parse import quote

from starlette.responses import HTMLResponse

from daemon.console.headers import PAGE_HEADERS


class _Template(Template):
    delimiter = "%%"  # what neither style nor script has


_PAGE = _Template(Path(__file__).with_name("login.html").read_text(encoding="utf-8"))
_SINGLE_SIGN_ON = '<p><a class="button" href="/login/oidc?next={next}">Log in with {display}</a></p>'
_PROBLEM = '<p class="problem" role="alert">{problem}</p>'


@dataclass(frozen=True)
class LoginPage:
    """What the page says.

    Attributes
    ----------
    site
        Name of the site.
    single_sign_on
        Name of the provider; None without one.
    """

    site: str
    single_sign_on: str | None = None

    def answer(
        self,
        status: int,
        *,
        place: str = "/",
        problem: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HTMLResponse:
        """Give the page.

        Parameters
        ----------
        status
            Of the answer.
        place
            Where to go afterwards.
        problem
            Why the login before this page failed.
        headers
            To be added.
        """
        return HTMLResponse(
            self._content(place, problem),
            status_code=status,
            headers={**PAGE_HEADERS, "cache-control": "no-store", **(headers or {})},
        )

    def _content(self, place: str, problem: str | None) -> str:
        return _PAGE.substitute(
            site=html.escape(self.site),
            next=html.escape(place),
            problem="" if problem is None else _PROBLEM.format(problem=html.escape(problem)),
            single_sign_on=self._link(place),
        )

    def _link(self, place: str) -> str:
        if self.single_sign_on is None:
            return ""
        return _SINGLE_SIGN_ON.format(next=quote(place, safe=""), display=html.escape(self.single_sign_on))
