"""Passwords, tokens, sessions and limits, on the real database."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from argon2 import PasswordHasher
from sqlmodel import Session, select

from daemon.access.control import AccessControl
from daemon.access.limits import Limit
from daemon.access.logins import TRIES_OF_A_NAME, Logins
from daemon.access.passwords import Passwords
from daemon.access.records import PasswordRecord, SessionRecord, TokenRecord
from daemon.access.roles import Act
from daemon.errors import InvalidChoice, NotAuthenticated, NotFound, NotPermitted, TooManyTries
from daemon.store.database import open_database, transaction
from tests.support.access import CHEAP, PEOPLE, redeclare

PASSWORD = "correct horse battery"


class CountingHasher(PasswordHasher):
    """The real one, which counts how often it is asked."""

    def __init__(self, **cost):
        super().__init__(**cost)
        self.verified = 0

    def verify(self, hash, password):  # noqa: A002 - the library's name
        self.verified += 1
        return super().verify(hash, password)


def keep(engine, passwords, clock, person="ada", password=PASSWORD):
    with transaction(engine) as session:
        passwords.keep(session, person, passwords.hash(password), now=clock())


def stored(engine, kind):
    with Session(engine) as session:
        return session.exec(select(kind)).all()


def test_a_password_is_kept_as_argon2id_hash_and_found_again(engine, clock):
    passwords = Passwords(engine)
    keep(engine, passwords, clock)

    assert passwords.matches("ada", PASSWORD)
    assert not passwords.matches("ada", PASSWORD + "x")
    assert not passwords.matches("olga", PASSWORD)
    (record,) = stored(engine, PasswordRecord)
    assert record.hash.startswith("$argon2id$")
    assert PASSWORD not in record.hash
    assert passwords.changed_at() == {"ada": clock()}


@pytest.mark.parametrize("person", ["ada", "olga", None])
@pytest.mark.parametrize("password", ["wrong password", "", "x" * 100_000, "\ud800", PASSWORD])
def test_the_work_is_the_same_for_everybody_and_for_nobody(engine, clock, person, password):
    hasher = CountingHasher(time_cost=1, memory_cost=64, parallelism=1)
    passwords = Passwords(engine, hasher)
    keep(engine, passwords, clock)

    assert passwords.matches(person, password) is (person == "ada" and password == PASSWORD)

    assert hasher.verified == 1


def test_a_hash_of_another_cost_is_made_anew_at_the_next_login(engine, clock):
    keep(engine, Passwords(engine, CHEAP), clock)
    dearer = Passwords(engine, PasswordHasher(time_cost=2, memory_cost=128, parallelism=1))

    assert dearer.matches("ada", PASSWORD)

    assert "m=128,t=2" in stored(engine, PasswordRecord)[0].hash
    assert dearer.matches("ada", PASSWORD)


@pytest.mark.parametrize("password", ["", "short", "x" * 257])
def test_a_password_that_nobody_should_have_is_refused(engine, password):
    with pytest.raises(InvalidChoice, match="10 to 256 characters"):
        Passwords(engine, CHEAP).hash(password)


def test_a_token_names_its_person_until_it_ends(access, engine, clock):
    record, token = access.tokens.create("olga", "dashboard", days=2, by="ada")

    assert access.person_of_token(token).name == "olga"
    (kept,) = stored(engine, TokenRecord)
    assert token not in str(kept.model_dump())
    assert kept.used_at == clock()
    assert access.tokens.listed("vera") == []
    assert [one.id for one in access.tokens.listed("olga")] == [record.id]
    clock.move(2 * 86400)
    with pytest.raises(NotAuthenticated):
        access.person_of_token(token)


def test_a_token_that_was_revoked_is_nobodys(access):
    record, token = access.tokens.create("olga", "dashboard", days=2, by="ada")

    access.tokens.revoke(record.id, by="ada")

    with pytest.raises(NotAuthenticated):
        access.person_of_token(token)
    assert access.tokens.listed() == []
    for again in (lambda: access.tokens.revoke(record.id, by="ada"), lambda: access.tokens.get(record.id)):
        with pytest.raises(NotFound, match="lumiwatch tokens list"):
            again()


@pytest.mark.parametrize("days", [0, -1, 367, float("nan"), float("inf")])
def test_a_token_is_good_for_some_time_and_not_for_ever(access, days):
    with pytest.raises(InvalidChoice, match="at most 366 days"):
        access.tokens.create("olga", "dashboard", days=days, by="ada")


def test_the_last_use_is_written_once_a_minute_at_most(access, engine, clock):
    _, token = access.tokens.create("olga", "dashboard", days=2, by="ada")
    first = clock()
    for seconds in (0, 30, 29):
        clock.move(seconds)
        access.person_of_token(token)
    assert stored(engine, TokenRecord)[0].used_at == first
    clock.move(1)
    access.person_of_token(token)
    assert stored(engine, TokenRecord)[0].used_at == clock()


def begin(access, engine, name):
    with transaction(engine) as session:
        return access.sessions.begin(session, access.people.find(name), "password")


def test_a_session_names_its_person_until_its_absolute_end(access, engine, clock):
    cookie = begin(access, engine, "olga")

    assert cookie not in str(stored(engine, SessionRecord)[0].model_dump())
    for _ in range(11):
        clock.move(3600)
        assert access.person_of_session(cookie, seen=True).name == "olga"
    clock.move(3600)
    with pytest.raises(NotAuthenticated, match="ended"):
        access.person_of_session(cookie)


def test_a_session_that_nobody_uses_ends_idle(access, engine, clock):
    cookie = begin(access, engine, "olga")
    clock.move(3 * 3600)
    access.person_of_session(cookie)  # a look is no use
    clock.move(3600)

    with pytest.raises(NotAuthenticated, match="ended"):
        access.person_of_session(cookie)


@pytest.mark.parametrize("cookie", ["", "x", "olga.9999999999.ab.00", "é", "' OR 1=1 --", "\ud800"])
def test_a_forged_session_is_refused(access, engine, cookie):
    begin(access, engine, "olga")

    with pytest.raises(NotAuthenticated):
        access.person_of_session(cookie)


def test_sessions_that_are_over_leave_the_table(access, engine, clock):
    for _ in range(3):
        begin(access, engine, "olga")
    clock.move(5 * 3600)

    begin(access, engine, "vera")

    assert [record.person for record in stored(engine, SessionRecord)] == ["vera"]


def test_a_new_password_ends_the_persons_other_sessions_and_nobody_elses(access, engine):
    mine, other, olgas = (begin(access, engine, name) for name in ("ada", "ada", "olga"))

    access.set_password("ada", PASSWORD, by="ada", keep=mine)

    assert access.person_of_session(mine).name == "ada"
    assert access.person_of_session(olgas).name == "olga"
    with pytest.raises(NotAuthenticated):
        access.person_of_session(other)
    access.set_password("ada", PASSWORD, by="ada")
    with pytest.raises(NotAuthenticated):
        access.person_of_session(mine)


def test_a_person_changes_a_password_only_by_the_present_one(access, engine, clock):
    logins = Logins(engine, access, clock, lambda _: None)
    cookie = begin(access, engine, "olga")
    with pytest.raises(NotAuthenticated, match="lumiwatch users password"):
        logins.change_password("olga", "", PASSWORD, keep=cookie)
    access.set_password("olga", PASSWORD, by="ada", keep=cookie)

    logins.change_password("olga", PASSWORD, "another horse battery", keep=cookie)

    assert access.passwords.matches("olga", "another horse battery")
    assert access.person_of_session(cookie).name == "olga"
    for _ in range(TRIES_OF_A_NAME - 1):
        with pytest.raises(NotAuthenticated):
            logins.change_password("olga", PASSWORD, "yet another horse", keep=cookie)
    with pytest.raises(TooManyTries):
        logins.change_password("olga", "another horse battery", "yet another horse", keep=cookie)


def test_who_is_removed_by_a_reload_loses_token_session_password_and_rights_at_once(
    access, engine, site_folder
):
    _, token = access.tokens.create("egon", "dashboard", days=2, by="ada")
    cookie = begin(access, engine, "egon")
    access.check("egon", Act.RESOLVE)

    redeclare(access, site_folder, PEOPLE.replace('role = "expert"', 'role = "viewer"'))
    with pytest.raises(NotPermitted, match="role expert is needed, egon has viewer"):
        access.check("egon", Act.RESOLVE)
    assert access.person_of_session(cookie).role == "viewer"

    redeclare(access, site_folder, PEOPLE.replace("operators.egon", "operators.emil"))
    with pytest.raises(NotPermitted, match="'egon' is nobody here"):
        access.check("egon", Act.READ)
    with pytest.raises(NotAuthenticated):
        access.person_of_token(token)
    with pytest.raises(NotAuthenticated):
        access.person_of_session(cookie)
    with pytest.raises(NotFound, match="declared are ada, emil, olga, vera"):
        access.set_password("egon", PASSWORD, by="ada")


def test_credentials_are_kept_on_postgresql_too(postgres_url, site, clock):
    engine = open_database(postgres_url)
    access = AccessControl(engine, site, clock)
    record, token = access.tokens.create("olga", "dashboard", days=2, by="ada")
    cookie = begin(access, engine, "olga")

    assert access.person_of_token(token).name == access.person_of_session(cookie).name == "olga"
    access.set_password("olga", PASSWORD, by="ada")
    access.set_password("olga", PASSWORD, by="ada")
    access.tokens.revoke(record.id, by="ada")

    assert access.passwords.matches("olga", PASSWORD)
    for gone in (lambda: access.person_of_token(token), lambda: access.person_of_session(cookie)):
        with pytest.raises(NotAuthenticated):
            gone()
    engine.dispose()


def test_a_limit_admits_so_many_tries_in_a_sliding_window(clock):
    limit = Limit(clock, tries=2, window=timedelta(seconds=60))
    limit.admit("a")
    clock.move(20)
    limit.admit("a")
    limit.admit("b")
    with pytest.raises(TooManyTries, match="wait 40 s") as caught:
        limit.admit("a")
    assert caught.value.retry_after_s == 40
    clock.move(40)
    limit.admit("a")
    with pytest.raises(TooManyTries):
        limit.admit("a")
    limit.take_back("a")
    limit.admit("a")


def test_of_many_tries_at_once_no_more_are_admitted(clock):
    limit = Limit(clock, tries=10, window=timedelta(seconds=60))

    def attempt(_):
        try:
            limit.admit("a")
        except TooManyTries:
            return 0
        return 1

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(attempt, range(500))) == 10


def test_a_limit_remembers_no_more_keys_than_it_may(clock):
    limit = Limit(clock, tries=1, window=timedelta(hours=1), most_keys=10)
    for number in range(1000):
        limit.admit(str(number))
    assert len(limit) == 10
    with pytest.raises(TooManyTries):
        limit.admit("999")
    limit.admit("0")
