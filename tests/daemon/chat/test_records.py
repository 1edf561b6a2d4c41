"""Used tickets, on SQLite and on PostgreSQL."""

from datetime import timedelta

import pytest
from sqlmodel import Session, select

from daemon.chat.records import ChatUseRecord, forget_uses, give_back, spend
from daemon.chat.refusal import Reason, Refused
from daemon.chat.signing import new_ticket
from daemon.store.database import open_database, transaction
from tests.daemon.chat.conftest import at_once


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/site.db"
    else:
        url = request.getfixturevalue("postgres_url")
    opened = open_database(url)
    yield opened
    opened.dispose()


def ticket_for(clock, hours=12):
    return new_ticket("reject", "anomaly-1", now=clock(), life=timedelta(hours=hours))


def uses(engine):
    with Session(engine) as session:
        return session.exec(select(ChatUseRecord)).all()


def test_of_many_who_use_one_ticket_at_once_one_does(engine, clock):
    ticket = ticket_for(clock)

    def use(operator):
        try:
            spend(engine, ticket, operator=operator, now=clock())
        except Refused as error:
            return error.reason
        return operator

    outcomes = at_once(use, "ada", "emmy", "lise", "vera")

    (kept,) = uses(engine)
    assert outcomes.count(Reason.USED) == 3
    assert kept.operator in outcomes


def test_what_is_given_back_can_be_used(engine, clock):
    ticket = ticket_for(clock)
    spend(engine, ticket, operator="lise", now=clock())

    give_back(engine, ticket)
    spend(engine, ticket, operator="ada", now=clock())

    assert [use.operator for use in uses(engine)] == ["ada"]


def test_uses_are_forgotten_only_when_their_tickets_have_expired(engine, clock):
    for hours in (1, 12):
        spend(engine, ticket_for(clock, hours), operator="ada", now=clock())

    with transaction(engine) as session:
        assert forget_uses(session, clock() + timedelta(hours=2)) == 1

    (kept,) = uses(engine)
    assert kept.expires_at == clock() + timedelta(hours=12)
