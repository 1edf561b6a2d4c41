"""Puts the console on the daemon's web application: pages, guard, local assets.

The page framework keeps its pages per process, so they are declared once here and find the services of the
application that was registered last.

Refuses to know what the pages show.
"""

import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import nicegui
from fastapi import FastAPI
from nicegui import ui
from starlette.requests import Request

from daemon.alerts.evidence import Evidence
from daemon.console import (
    account_page,
    approvals_page,
    boards_page,
    configuration_page,
    incident_page,
    lineage_page,
    model_page,
    package_page,
    packages_page,
    silences_page,
    wall,
)
from daemon.console.guard import Door, Guard
from daemon.console.layout import Visit, frame, visit_of
from daemon.console.looks import SCRIPT, STYLE
from daemon.console.wording import short
from daemon.errors import DaemonError
from daemon.process.services import Services


@dataclass(frozen=True)
class _Site:
    services: Services
    evidence: Evidence


RECONNECT_S: Final = 10.0
"""So long a page that lost its connection may take to come back; one that is silent for 12 s is lost."""

_registered: list[_Site] = []


def register_console(app: FastAPI, services: Services) -> None:
    """Serve the console on an application, below everything the application serves already.

    Parameters
    ----------
    app
        Has its API routes, and `/login`; it must not be running yet.
    services
        What the pages work with.
    """
    # The page framework looks through all living objects for its server, and trips over one of torch's.
    warnings.filterwarnings("ignore", message=r"`torch\.distributed\.reduce_op`", category=FutureWarning)
    first = not _registered
    _registered[:] = [_Site(services, Evidence(services.engine, services.site))]
    # Another application in the same process (tests): the framework's own may be taken up again.
    nicegui.app.middleware_stack = None
    if first:
        ui.add_css(STYLE, shared=True)
        ui.add_head_html(f"<script>{SCRIPT}</script>", shared=True)
        _declare_pages()
        nicegui.app.add_middleware(Guard, door=_door)
    ui.run_with(
        app,
        title="lumiwatch",
        dark=True,
        language="en-US",
        reconnect_timeout=RECONNECT_S,
        show_welcome_message=False,
    )


def _door() -> Door:
    services = _registered[0].services
    return Door(services.access, services.clock, services.login_page)


async def _page(
    request: Request, *, title: str, path: str, fill: Callable[[Visit, _Site], Awaitable[None]]
) -> None:
    """Draw a page in its frame; what cannot be shown is said in its place."""
    site = _registered[0]
    visit = visit_of(request, site.services)
    with frame(visit, site.services, title=title, path=path):
        try:
            await fill(visit, site)
        except DaemonError as error:
            ui.label(str(error)).classes("lw-notice").props('role="alert"')


_PLAIN: Final = (
    ("/", "Wall", wall.build),
    ("/incidents", "Incidents", incident_page.build_list),
    ("/approvals", "Approvals", approvals_page.build),
    ("/boards", "Boards", boards_page.build),
    ("/packages", "Packages", packages_page.build),
    ("/configuration", "Configuration", configuration_page.build),
    ("/account", "Account", account_page.build),
)
"""Pages whose address says everything: path, title, what fills them."""


def _declare(path: str, title: str, build: Callable[[Visit, Services], Awaitable[None]]) -> None:
    @ui.page(path)
    async def show(request: Request) -> None:
        await _page(request, title=title, path=path, fill=lambda visit, site: build(visit, site.services))


def _declare_pages() -> None:
    for path, title, build in _PLAIN:
        _declare(path, title, build)

    @ui.page("/models/{model}")
    async def show_model(request: Request, model: str) -> None:
        await _page(
            request,
            title=model,
            path="/models",
            fill=lambda visit, site: model_page.build(
                visit, site.services, site.evidence, model, request.query_params
            ),
        )

    @ui.page("/incidents/{incident_id}")
    async def show_incident(request: Request, incident_id: str) -> None:
        await _page(
            request,
            title=f"Incident {incident_id}",
            path="/incidents",
            fill=lambda visit, site: incident_page.build(visit, site.services, incident_id),
        )

    @ui.page("/silences")
    async def show_silences(request: Request, model: str = "") -> None:
        await _page(
            request,
            title="Silences",
            path="/silences",
            fill=lambda visit, site: silences_page.build(visit, site.services, model),
        )

    @ui.page("/packages/{package_id}")
    async def show_package(request: Request, package_id: str) -> None:
        await _page(
            request,
            title=f"Package {short(package_id)}",
            path="/packages",
            fill=lambda visit, site: package_page.build(visit, site.services, package_id),
        )

    @ui.page("/lineage")
    async def show_lineage(request: Request, id: str = "") -> None:  # noqa: A002 - the name in the address
        await _page(
            request,
            title="Lineage",
            path="/lineage",
            fill=lambda visit, site: lineage_page.build(visit, site.services, id),
        )
