"""Login, logout and tokens over real HTTP; what is limited, counted, recorded, and never said."""

import logging

import pytest
from sqlmodel import Session, select

from daemon.access.logins import TRIES_FROM_AN_ADDRESS, TRIES_OF_A_NAME
from daemon.access.sessions import SESSION_COOKIE
from daemon.site.settings import load_site
from daemon.store.records import EventRecord
from tests.support.access import make_services, redeclare, served

PASSWORD = "correct horse battery"
HOSTILE = [
    "' OR '1'='1' --",
    "ada'; DROP TABLE daemon_sessions; --",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "%%site {0} {problem} ${x} {{7*7}}",
    "ada\x00",
    "ada\n[operators.eve]",
    "../../etc/passwd",
    "ÄDA",
    " " * 60,
]


@pytest.fixture
def browser(api):
    api.services.access.set_password("olga", PASSWORD, by="test")
    with api.client() as client:
        client.headers["Origin"] = api.url
        yield client


def log_in(browser, name="olga", password=PASSWORD, **more):
    return browser.post("/login", data={"name": name, "password": password, **more})


def events(engine, kind):
    with Session(engine) as session:
        return session.exec(select(EventRecord).where(EventRecord.kind == kind)).all()


def logins(api):
    lines = api.services.metrics.render().decode().splitlines()
    found = [line.split() for line in lines if line.startswith("lumiwatch_logins_total{")]
    return {name.split('"')[1]: float(value) for name, value in found}


def test_name_and_password_open_a_session_that_logout_ends_in_the_database(browser, api, engine):
    answer = log_in(browser, next="/incidents/anomaly-1")

    assert (answer.status_code, answer.headers["location"]) == (303, "/incidents/anomaly-1")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(answer.headers["set-cookie"].split("; "))
    cookie = browser.cookies[SESSION_COOKIE]
    assert browser.get("/api/v1/me").json()["name"] == "olga"
    assert [event.text for event in events(engine, "access.login")] == [
        "olga logged in (password) from 127.0.0.1."
    ]

    assert browser.post("/logout").headers["location"] == "/"

    browser.cookies.set(SESSION_COOKIE, cookie)
    assert browser.get("/api/v1/me").status_code == 401


def test_each_login_has_a_session_of_its_own(browser):
    log_in(browser)
    first = browser.cookies[SESSION_COOKIE]

    log_in(browser)

    assert browser.cookies[SESSION_COOKIE] != first
    browser.cookies.set(SESSION_COOKIE, first)
    assert browser.get("/api/v1/me").status_code == 401


def test_the_cookie_of_an_encrypted_page_is_secure(engine, site_folder, clock):
    site = load_site(site_folder, overrides={"console": {"public_url": "https://watch.example.org"}})
    with served(make_services(engine, site, clock)) as api, api.client() as client:
        token = {"token": api.services.access.tokens.create("ada", "x", days=1, by="test")[1]}
        for headers, secure in (
            ({}, False),
            ({"Host": "watch.example.org"}, True),
            ({"X-Forwarded-Proto": "https"}, True),
        ):
            cookie = client.get("/login", params=token, headers=headers).headers["set-cookie"]
            assert ("Secure" in cookie.split("; ")) is secure


@pytest.mark.parametrize("name", ["olga", "ada", "nobody", *HOSTILE])
def test_a_wrong_password_and_an_unknown_name_are_answered_alike(browser, api, engine, name):
    answer = log_in(browser, name, "wrong password")

    assert answer.status_code == 401
    known = log_in(browser, "olga", "wrong password")
    assert answer.text == known.text
    assert "the name or the password is wrong" in answer.text
    assert browser.get("/api/v1/me").status_code == 401
    assert log_in(browser).status_code == 303, "the tables are gone"
    assert events(engine, "access.refused") != []


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example.org",
        "//evil.example.org",
        "/\\evil.example.org",
        "javascript:alert(1)",
        "/x\r\nSet-Cookie: a=b",
        '/"><script>',
        "/logout",
        "/login?token=x",
        "/api/v1/me",
        "",
    ],
)
def test_a_login_leads_to_pages_of_this_site_only(browser, wanted):
    assert log_in(browser, next=wanted).headers["location"] == "/"
    assert 'name="next" value="/"' in log_in(browser, password="wrong password", next=wanted).text


@pytest.mark.parametrize("origin", ["https://evil.example.org", "null", "http://127.0.0.1:1"])
def test_forms_of_other_sites_log_nobody_in_or_out(browser, api, origin):
    log_in(browser)
    cookie = browser.cookies[SESSION_COOKIE]
    browser.headers["Origin"] = origin

    assert browser.post("/logout").status_code == 401
    assert log_in(browser).status_code == 403

    assert browser.cookies[SESSION_COOKIE] == cookie
    assert browser.get("/api/v1/me").status_code == 200


def test_a_token_logs_in_by_the_form_and_by_the_link(browser, api, engine):
    token = api.token("egon")

    assert (
        browser.post("/login", data={"token": token, "next": "/packages"}).headers["location"] == "/packages"
    )
    assert browser.get("/api/v1/me").json()["name"] == "egon"
    link = browser.get("/login", params={"token": token})
    assert 'url=/"' in link.text
    assert link.headers["referrer-policy"] == "no-referrer"
    assert [event.detail["via"] for event in events(engine, "access.login")] == ["token", "token"]
    assert browser.post("/login", data={"token": "guess"}).status_code == 401
    assert browser.get("/login", params={"token": "guess"}).status_code == 401


def test_too_many_tries_of_a_name_are_refused_for_a_while_and_no_other_name(browser, api, engine, clock):
    api.services.access.set_password("ada", PASSWORD, by="test")
    for _ in range(TRIES_OF_A_NAME):
        assert log_in(browser, password="wrong password").status_code == 401

    limited = log_in(browser)

    assert limited.status_code == 429
    assert limited.headers["retry-after"] == "900"
    assert "too many tries: wait 900 s" in limited.text
    assert log_in(browser, "ada").status_code == 303
    assert logins(api) == {"granted": 1, "refused": TRIES_OF_A_NAME, "limited": 1}
    clock.move(900)
    assert log_in(browser).status_code == 303


def test_too_many_tries_from_an_address_are_refused_whatever_they_try(browser, api, engine, clock):
    for number in range(TRIES_FROM_AN_ADDRESS):
        assert browser.get("/login", params={"token": f"guess {number}"}).status_code == 401

    answer = browser.get("/login", params={"token": api.token("ada")})

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "900")
    assert log_in(browser).status_code == 429
    assert len(events(engine, "access.refused")) == 20, "a robot fills the database"
    with api.client(api.token("ada")) as program:
        assert program.get("/api/v1/me").status_code == 200
    clock.move(900)
    assert log_in(browser).status_code == 303


def test_good_logins_never_run_into_the_limit(browser, api):
    for _ in range(TRIES_OF_A_NAME + 1):
        assert log_in(browser).status_code == 303
    for _ in range(TRIES_FROM_AN_ADDRESS + 1):
        assert browser.get("/login", params={"token": api.token("olga")}).status_code == 200


def test_the_address_is_what_a_proxy_on_this_machine_says_if_it_is_one(browser, engine):
    for said in ("203.0.113.7", "2001:db8::1", "<script>", "x" * 5000):
        log_in(browser, password="wrong password")
        browser.post(
            "/login", data={"name": "olga", "password": "wrong password"}, headers={"X-Forwarded-For": said}
        )

    found = [event.detail["address"] for event in events(engine, "access.refused")]
    assert found[1::2] == ["203.0.113.7", "2001:db8::1", "unknown", "unknown"]
    assert found[::2] == ["127.0.0.1"] * 4


def test_the_addresses_of_one_ipv6_network_are_one(browser):
    for number in range(TRIES_FROM_AN_ADDRESS):
        said = {"X-Forwarded-For": f"2001:db8::{number:x}"}
        assert browser.get("/login", params={"token": "guess"}, headers=said).status_code == 401

    for said, status in (("2001:db8::ffff", 429), ("2001:db8:0:1::1", 401)):
        answer = browser.get("/login", params={"token": "guess"}, headers={"X-Forwarded-For": said})
        assert answer.status_code == status


def test_logins_are_counted_from_zero(api):
    assert logins(api) == {"granted": 0, "refused": 0, "limited": 0}


def test_people_make_list_and_revoke_their_own_tokens(api, engine):
    with api.client(api.token("olga")) as client:
        made = client.post("/api/v1/tokens", json={"name": "dashboard", "days": 30})
        assert made.status_code == 201
        token = made.json()
        listed = client.get("/api/v1/tokens").json()
        assert token["id"] in {one["id"] for one in listed}
        assert all("token" not in one for one in listed)
        assert client.get("/api/v1/tokens", params={"everybody": True}).status_code == 403
        with api.client(token["token"]) as program:
            assert program.get("/api/v1/me").json()["name"] == "olga"
            assert client.delete(f"/api/v1/tokens/{token['id']}").status_code == 204
            assert program.get("/api/v1/me").status_code == 401
        assert client.delete(f"/api/v1/tokens/{token['id']}").status_code == 404
    kinds = [events(engine, f"access.token_{what}")[-1] for what in ("created", "revoked")]
    assert [(event.actor, event.detail["name"]) for event in kinds] == [("olga", "dashboard")] * 2


def test_an_admin_does_so_for_others(api):
    with api.client(api.token("ada")) as client:
        made = client.post("/api/v1/tokens", json={"name": "dashboard", "person": "vera"}).json()
        assert made["person"] == "vera"
        everybody = client.get("/api/v1/tokens", params={"everybody": True}).json()
        assert {one["person"] for one in everybody} == {"ada", "vera"}
        assert client.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
        assert client.post("/api/v1/tokens", json={"name": "x", "person": "nobody"}).status_code == 404


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "x", "days": 0}, {"name": "x", "admin": True}])
def test_a_token_that_makes_no_sense_is_refused(api, body):
    with api.client(api.token("olga")) as client:
        assert client.post("/api/v1/tokens", json=body).status_code == 422


@pytest.mark.parametrize("identity", ["none", "t-0000000g", "%00", "t-00000000%0a"])
def test_a_token_id_that_is_none_is_refused(api, identity):
    with api.client(api.token("ada")) as client:
        assert client.delete(f"/api/v1/tokens/{identity}").status_code == 422


def test_who_leaves_the_file_is_out_with_the_reload(browser, api, site_folder):
    log_in(browser)
    token = api.token("olga")

    redeclare(api.services.access, site_folder, '[operators.ada]\nrole = "admin"\n[operators.egon]\n')

    assert browser.get("/api/v1/me").status_code == 401
    assert log_in(browser).status_code == 401
    with api.client(token) as program:
        assert program.get("/api/v1/me").status_code == 401


def test_no_secret_is_in_a_log_an_event_an_answer_or_a_metric(browser, api, engine, caplog):
    caplog.set_level(logging.DEBUG)
    token = api.token("egon")
    secrets = ["a-mistyped-password", PASSWORD, token, "password-typed-as-name", "wrong-token-0123456789"]
    answers = [
        log_in(browser, "olga", "a-mistyped-password"),
        log_in(browser, "password-typed-as-name", "x"),
        browser.post("/login", data={"token": "wrong-token-0123456789"}),
        browser.get("/login", params={"token": "wrong-token-0123456789"}),
        log_in(browser),
        browser.get("/login", params={"token": token}),
        browser.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"}),
        browser.get("/api/v1/me", headers={"Authorization": "Bearer wrong-token-0123456789"}),
        browser.get("/api/v1/tokens", headers={"Authorization": f"Bearer {token}"}),
        browser.get("/api/v1/events", headers={"Authorization": f"Bearer {token}"}),
        browser.get("/metrics"),
    ]
    secrets.append(browser.cookies[SESSION_COOKIE])
    api.services.access.set_password("olga", "another horse battery", by="ada")
    secrets.append("another horse battery")
    with Session(engine) as session:
        written = [event.model_dump_json() for event in session.exec(select(EventRecord))]
    ours = [
        record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))
    ]

    assert {"access.login", "access.refused", "access.token_created", "access.password_changed"} <= {
        event.kind for kind in ("login", "refused", "token_created", "password_changed")
        for event in events(engine, f"access.{kind}")
    }  # fmt: skip
    assert any("was refused" in line for line in ours)
    for secret in secrets:
        for said in (*ours, *written, *(answer.text for answer in answers)):
            assert secret not in said
