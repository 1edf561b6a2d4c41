"""Single sign-on from end to end: a browser, this site's API, and a provider, over real HTTP."""

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from sqlmodel import Session, select

from daemon.access.records import SessionRecord
from daemon.access.roles import Act
from daemon.access.sessions import SESSION_COOKIE
from daemon.api.sign_on import COOKIE
from daemon.errors import NotPermitted, SettingsError
from daemon.site.settings import load_site
from tests.support.access import declare, make_services, redeclare, served
from tests.support.daemon import HandClock
from tests.support.oidc_provider import CLIENT, SECRET, new_key, oidc_provider


@pytest.fixture
def clock():
    """The provider's tokens are of today."""
    return HandClock(datetime.now(UTC))


@pytest.fixture
def provider():
    with oidc_provider() as running:
        yield running


@pytest.fixture
def api(engine, site_folder, provider, clock):
    secret = site_folder / "client-secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    declare(
        site_folder,
        f'[oidc]\nissuer = "{provider.issuer}"\nclient_id = "{CLIENT}"\n'
        'client_secret_file = "client-secret"\n'
        'display = "LAB <SSO>"\nroles = {trigger-shifters = "operator", trigger-experts = "expert"}\n',
    )
    with served(make_services(engine, load_site(site_folder), clock)) as running:
        yield running


@pytest.fixture
def browser(api):
    with httpx.Client(base_url=api.url, timeout=30, trust_env=False) as client:
        yield client


def to_provider(browser, **query):
    """Begin a login; gives where the provider sends the browser back to."""
    departed = browser.get("/login/oidc", params=query)
    assert departed.status_code == 303
    asked = httpx.get(departed.headers["location"], trust_env=False)
    assert asked.status_code == 302
    return asked.headers["location"]


def log_in(browser, **query):
    return browser.get(to_provider(browser, **query))


def refused(answer, status, words):
    assert answer.status_code == status
    assert "Log in to lumiwatch" in answer.text
    assert words in answer.text
    assert SESSION_COOKIE not in answer.cookies
    return True


def test_a_declared_person_logs_in_with_the_role_of_the_file(browser, provider, api):
    provider.claims["cern_roles"] = ["trigger-shifters"]

    answer = log_in(browser, next="/incidents/anomaly-1")

    assert 'url=/incidents/anomaly-1"' in answer.text
    cookies = answer.headers.get_list("set-cookie")
    (session,) = [cookie for cookie in cookies if cookie.startswith(SESSION_COOKIE)]
    assert "HttpOnly" in session
    assert "SameSite=strict" in session
    me = browser.get("/api/v1/me").json()
    assert (me["name"], me["full_name"], me["role"]) == ("ada", "Ada Example", "admin")


def test_an_undeclared_person_has_the_highest_role_that_the_provider_gives(browser, provider, api):
    provider.claims = {
        "sub": "s-9",
        "preferred_username": "nina",
        "name": "Nina Neu",
        "cern_roles": ["trigger-shifters", "trigger-experts", "cooks"],
    }

    log_in(browser)

    me = browser.get("/api/v1/me").json()
    assert (me["name"], me["full_name"], me["role"]) == ("nina", "Nina Neu", "expert")
    api.services.access.check("nina", Act.RESOLVE)
    with pytest.raises(NotPermitted, match="role admin is needed"):
        api.services.access.check("nina", Act.MANAGE_ACCESS)


def test_what_the_provider_granted_ends_with_the_session(browser, provider, api, clock):
    provider.claims = {"sub": "s-9", "preferred_username": "nina", "cern_roles": "trigger-shifters"}
    log_in(browser)
    api.services.access.check("nina", Act.ACKNOWLEDGE)

    browser.post("/logout")

    with pytest.raises(NotPermitted, match="'nina' is nobody here"):
        api.services.access.check("nina", Act.ACKNOWLEDGE)
    assert browser.get("/api/v1/me").status_code == 401


def test_whoever_is_declared_since_logs_in_once_more(browser, provider, api, site_folder, engine):
    provider.claims = {"sub": "s-9", "preferred_username": "nina", "cern_roles": ["trigger-experts"]}
    log_in(browser)

    other = '[operators.nina]\nsubject = "of-another-nina"\n'
    redeclare(api.services.access, site_folder, f"{other}[operators.ada]\n[operators.egon]\n")

    assert browser.get("/api/v1/me").status_code == 401


def test_the_subject_of_the_file_says_who_it_is(browser, provider, api, site_folder):
    provider.claims = {"sub": "0a1b2c", "preferred_username": "somebody-else"}
    people = '[operators.ada]\nsubject = "0a1b2c"\n[operators.egon]\n'
    redeclare(api.services.access, site_folder, people)

    log_in(browser)

    assert browser.get("/api/v1/me").json()["name"] == "ada"


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"preferred_username": "nina"}, "nina has no role at this site"),
        ({"preferred_username": "nina", "cern_roles": ["cooks"]}, "trigger-experts, trigger-shifters"),
        ({"preferred_username": "nina", "cern_roles": {"a": 1}}, "nina has no role at this site"),
        ({"preferred_username": "policy", "cern_roles": ["trigger-experts"]}, "stands for somebody else"),
        ({"preferred_username": "<script>", "cern_roles": ["trigger-experts"]}, "stands for somebody else"),
    ],
)
def test_whom_this_site_does_not_let_in_is_told(browser, provider, api, claims, words):
    provider.claims = {"sub": "s-9", **claims}

    assert refused(log_in(browser), 403, words)
    assert browser.get("/api/v1/me").status_code == 401


def test_nobody_gets_a_declared_name_with_another_subject(browser, provider, api, site_folder):
    people = '[operators.ada]\nsubject = "s-1"\n[operators.egon]\n'
    redeclare(api.services.access, site_folder, people)
    provider.claims = {"sub": "s-9", "preferred_username": "ada", "cern_roles": ["trigger-experts"]}

    assert refused(log_in(browser), 403, "stands for somebody else")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"nonce": "replayed"}, "belongs to another login"),
        ({"nonce": None}, "nonce"),
        ({"aud": "another-program"}, "aud"),
        ({"aud": [CLIENT, "another-program"]}, "made for another program"),
        ({"aud": [CLIENT, "other"], "azp": "other"}, "made for another program"),
        ({"azp": "another-program"}, "made for another program"),
        ({"iss": "https://elsewhere.example.org"}, "iss"),
        ({"exp": 1_000_000_000}, "expired"),
        ({"exp": None}, "exp"),
        ({"iat": 4_000_000_000}, "issued in the future"),
        ({"sub": None}, "sub"),
        ({"preferred_username": None}, "no claim preferred_username"),
    ],
)
def test_a_token_that_says_something_wrong_is_not_believed(browser, provider, api, wrong, words):
    provider.wrong = wrong

    answer = log_in(browser)

    assert refused(answer, 401, "is not believed")
    assert words in answer.text


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_a_token_that_anybody_could_have_made_is_not_believed(browser, provider, api, algorithm):
    provider.algorithm = algorithm

    assert refused(log_in(browser), 401, "signature is not the provider&#x27;s")


def test_a_token_of_a_key_of_somebody_else_is_not_believed(browser, provider, api):
    provider.signing = new_key("one")

    assert refused(log_in(browser), 401, "signature is not the provider&#x27;s")


def test_a_new_key_of_the_provider_is_fetched_and_an_unknown_one_not_for_ever(browser, provider, api, clock):
    log_in(browser)
    provider.sign_anew()
    assert refused(log_in(browser), 401, "signature"), "asked again at once, as often as anybody likes"
    clock.move(11)
    log_in(browser)
    assert browser.get("/api/v1/me").json()["name"] == "ada"

    provider.signing = new_key("unknown")
    asked = provider.asked.count("/keys")
    for _ in range(3):
        assert refused(log_in(browser), 401, "signature")
    assert provider.asked.count("/keys") == asked


@pytest.mark.parametrize("how", ["wrong state", "no state", "no cookie", "forged cookie", "too late"])
def test_only_the_browser_that_departed_arrives(browser, provider, api, clock, how):
    back = urlsplit(to_provider(browser))
    query = {name: value for name, (value,) in parse_qs(back.query).items()}
    if how == "wrong state":
        query["state"] = "x" * len(query["state"])
    elif how == "no state":
        del query["state"]
    elif how == "no cookie":
        browser.cookies.clear()
    elif how == "forged cookie":
        browser.cookies.set(COOKIE, "e30.e30.x", domain="127.0.0.1", path="/login/oidc")
    else:
        clock.move(601)

    answer = browser.get(f"{back.path}?{urlencode(query)}")

    assert refused(answer, 401, "begun elsewhere, or long ago")
    assert "/token" not in provider.asked


def test_a_code_is_good_once_and_so_is_a_departure(browser, provider, api):
    back = to_provider(browser)
    departed = dict(browser.cookies)
    assert browser.get(back).status_code == 200

    assert refused(browser.get(back), 401, "begun elsewhere")
    browser.cookies.set(COOKIE, departed[COOKIE], domain="127.0.0.1", path="/login/oidc")
    assert refused(browser.get(back), 401, "refused the login")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"error": "access_denied"}, "has not logged you in"),
        ({"code": ""}, "has not logged you in"),
        ({"code": "x", "iss": "https://elsewhere.example.org"}, "another provider answered"),
        ({"code": "guessed"}, "refused the login"),
    ],
)
def test_an_arrival_without_a_login_is_refused(browser, provider, api, query, words):
    back = urlsplit(to_provider(browser))
    state = parse_qs(back.query)["state"][0]

    assert refused(browser.get(f"{back.path}?{urlencode({'state': state, **query})}"), 401, words)


def test_a_provider_that_is_away_is_said_and_asked_again_later(browser, provider, api, clock):
    provider.away = True
    for _ in range(3):
        assert refused(browser.get("/login/oidc"), 503, "LAB &lt;SSO&gt; does not answer as it should")
    assert provider.asked.count("/.well-known/openid-configuration") == 1

    provider.away = False
    clock.move(11)
    log_in(browser)
    assert browser.get("/api/v1/me").json()["name"] == "ada"


def test_a_provider_that_goes_away_during_a_login_is_said_and_counts_as_no_try(browser, provider, api):
    for _ in range(40):
        back = to_provider(browser)
        provider.away = True
        assert refused(browser.get(back), 503, "does not answer")
        provider.away = False


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"issuer": "https://elsewhere.example.org"}, "calls itself"),
        ({"token_endpoint": "http://elsewhere.example.org/token"}, "unencrypted"),
        ({"jwks_uri": None}, "lacks something"),
    ],
)
def test_a_provider_that_describes_itself_wrongly_is_not_used(browser, provider, api, metadata, words):
    provider.metadata = metadata

    assert refused(browser.get("/login/oidc"), 503, words)


def test_keys_that_cannot_be_read_are_said(browser, provider, api):
    provider.metadata = {"jwks_uri": f"{provider.issuer}/.well-known/openid-configuration"}

    assert refused(browser.get("/login/oidc"), 503, "keys cannot be read")


def test_the_cookie_of_a_departure_comes_back_from_another_site_and_goes_nowhere_else(browser, api):
    cookie = browser.get("/login/oidc").headers["set-cookie"]

    assert {"HttpOnly", "SameSite=lax", "Path=/login/oidc", "Max-Age=600"} <= set(cookie.split("; "))


def test_a_reload_brings_another_provider_and_takes_it_away(engine, site_folder, provider, clock):
    declare(site_folder)
    without = load_site(site_folder)
    oidc = f'[oidc]\nissuer = "{provider.issuer}"\nclient_id = "{CLIENT}"\ndisplay = "LAB"\n'
    declare(site_folder, oidc)
    with served(make_services(engine, without, clock)) as api, api.client() as browser:
        entrance = api.services.entrance
        assert "/login/oidc" not in browser.get("/login").text
        assert browser.get("/login/oidc").status_code == 404

        entrance.prepare(load_site(site_folder))()
        assert "Log in with LAB" in browser.get("/login").text
        assert browser.get("/login/oidc").headers["location"].startswith(provider.issuer)
        begun = entrance.sign_on
        entrance.prepare(load_site(site_folder))()
        assert entrance.sign_on is begun, "a login that is under way goes on"

        declare(site_folder, oidc + 'client_secret_file = "nowhere"\n')
        with pytest.raises(SettingsError, match=r"oidc\.client_secret_file"):
            entrance.prepare(load_site(site_folder))
        assert entrance.sign_on is begun

        entrance.prepare(without)()
        assert browser.get("/login/oidc").status_code == 404


def test_the_login_page_offers_it_by_name(browser, api):
    page = browser.get("/login").text

    assert '<a class="button" href="/login/oidc?next=%2F">Log in with LAB &lt;SSO&gt;</a>' in page


def test_a_site_without_it_says_so(engine, site, clock):
    with served(make_services(engine, site, clock)) as running, running.client() as client:
        assert client.get("/login/oidc").status_code == 404
        assert "/login/oidc" not in client.get("/login").text


def test_a_login_begins_a_session_of_its_own(browser, provider, api, engine):
    log_in(browser)
    first = browser.cookies[SESSION_COOKIE]
    log_in(browser)

    assert browser.cookies[SESSION_COOKIE] != first
    with Session(engine) as session:
        assert {record.via for record in session.exec(select(SessionRecord))} == {"oidc"}
