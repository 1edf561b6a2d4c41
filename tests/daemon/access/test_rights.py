"""Every acting route refuses whoever has not the role, and says which one is needed."""

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from daemon.access.roles import LEAST_ROLE, Act, Role, may
from daemon.api import application
from daemon.site.settings import load_site
from daemon.store.database import open_database
from tests.support.access import ROLES, declare, make_services, served
from tests.support.daemon import HandClock, copy_site

ACTING = {
    ("POST", "/api/v1/incidents/{incident_id}/acknowledge"): (Act.ACKNOWLEDGE, {"comment": "x"}),
    ("POST", "/api/v1/incidents/{incident_id}/notes"): (Act.NOTE, {"text": "x"}),
    ("POST", "/api/v1/incidents/{incident_id}/resolve"): (Act.RESOLVE, {"comment": "x"}),
    ("POST", "/api/v1/incidents/{incident_id}/responses"): (Act.RESPOND, None),
    ("POST", "/api/v1/models/{model}/retrain"): (Act.RETRAIN, {"reason": "x"}),
    ("POST", "/api/v1/responses/{response_id}/decisions"): (Act.DECIDE, {"decision": "approve"}),
    ("POST", "/api/v1/models/{model}/board/apply"): (
        Act.WORK_ON_BOARDS,
        {"package_id": "a" * 64, "planned_from": "b" * 64, "why": "x"},
    ),
    ("POST", "/api/v1/models/{model}/board/rollback"): (
        Act.WORK_ON_BOARDS,
        {"planned_from": "b" * 64, "why": "x"},
    ),
    ("POST", "/api/v1/models/{model}/board/scrub"): (Act.WORK_ON_BOARDS, {"why": "x"}),
    ("POST", "/api/v1/silences"): (Act.SILENCE, {"reason": "x", "ends_at": "2026-03-02T12:00:00Z"}),
    ("DELETE", "/api/v1/silences/{silence_id}"): (Act.SILENCE, None),
    ("POST", "/api/v1/configuration/reload"): (Act.RECONFIGURE, None),
    ("POST", "/api/v1/tokens"): (Act.MANAGE_ACCESS, {"name": "x", "person": "nobody"}),
    ("DELETE", "/api/v1/tokens/{token_id}"): (Act.MANAGE_ACCESS, None),
}
"""The right that each acting route takes, and a body that it understands."""
OTHERS = {"/login", "/logout"}
"""Open to everybody: they let in and out."""
NAMES = {Role(role): name for name, role in ROLES.items()}


CHAT = "/chat/"
"""Routes of the chat have tests of their own: their callers show no token, and each act asks `Operations`."""


def routes():
    """Find every route of the API, by method and path."""
    app = FastAPI()
    application.install(app, services=None)
    return {
        (method, route.path)
        for route in iter_route_contexts(app.routes)
        for method in (route.methods or set()) - {"HEAD", "OPTIONS"}
    }


READING = sorted(path for method, path in routes() if method == "GET" and path.startswith("/api/v1/"))


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """One site for all: no call here changes anything but tokens."""
    folder = copy_site(tmp_path_factory.mktemp("rights"))
    declare(folder)
    site = load_site(folder)
    engine = open_database(site.database_url)
    with served(make_services(engine, site, HandClock())) as running:
        yield running
    engine.dispose()


def call(api, client, method, path, body):
    foreign = api.services.access.tokens.create("ada", "of ada", days=1, by="test")[0].id
    names = {
        "incident_id": "anomaly-1",
        "response_id": "anomaly-1-r1",
        "model": "anomaly",
        "token_id": foreign,
        "silence_id": "silence-1",
    }
    return client.request(method, path.format(**names), json=body)


def test_every_acting_route_has_its_right_in_this_table():
    acting = {
        (method, path)
        for method, path in routes()
        if method != "GET" and path not in OTHERS and not path.startswith(CHAT)
    }

    assert acting == set(ACTING)


@pytest.mark.parametrize("path", READING)
def test_nobody_reads_without_a_token_or_a_session(api, path):
    with api.client() as client:
        assert client.get(path).status_code == 401


@pytest.mark.parametrize(("method", "path"), sorted(ACTING))
def test_a_role_that_does_not_suffice_is_refused_by_name_and_one_that_does_is_not(api, method, path):
    act, body = ACTING[method, path]
    for role, name in NAMES.items():
        with api.client(api.token(name)) as client:
            answer = call(api, client, method, path, body)

        if may(role, act):
            assert answer.status_code != 403, answer.text
            continue
        assert answer.status_code == 403
        assert answer.json()["error"] == "NotPermitted"
        assert answer.json()["detail"].startswith(
            f"{name} may not {act}: the role {LEAST_ROLE[act]} is needed, {name} has {role}"
        )


@pytest.mark.parametrize(("method", "path"), sorted(ACTING))
def test_nobody_acts_without_a_token_not_even_with_a_session(api, method, path):
    _, body = ACTING[method, path]
    with api.client() as client:
        client.get("/login", params={"token": api.token("ada")})
        assert client.get("/api/v1/me").json()["name"] == "ada"

        assert call(api, client, method, path, body).status_code == 401


def test_the_role_counts_before_what_is_asked_for_exists(api):
    with api.client(api.token("vera")) as client:
        assert client.post("/api/v1/incidents/none-1/resolve", json={}).status_code == 403
    with api.client(api.token("egon")) as client:
        assert client.post("/api/v1/incidents/none-1/resolve", json={}).status_code == 404


@pytest.mark.parametrize("name", ROLES)
def test_everybody_is_told_who_they_are_and_what_they_may_do(api, name):
    with api.client(api.token(name)) as client:
        me = client.get("/api/v1/me").json()

    role = Role(ROLES[name])
    assert me == {
        "name": name,
        "full_name": f"{name.capitalize()} Example",
        "role": role,
        "rights": [act for act in Act if may(role, act)],
    }
