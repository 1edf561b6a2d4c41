from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.chat.refusal import Reason, Refused
from daemon.chat.signing import Signer, Ticket, new_ticket

NOW = datetime(2026, 7, 1, 3, 0, tzinfo=UTC)
SIGNER = Signer(b"k" * 32)
FIELDS = ("act", "incident_id", "response_id", "stage", "person", "expires_at", "nonce")

tickets = st.builds(
    Ticket,
    act=st.text(),
    incident_id=st.text(),
    response_id=st.text(),
    stage=st.text(),
    person=st.text(),
    expires_at=st.integers(int(NOW.timestamp()) + 1, 2**40).map(str),
    nonce=st.text(),
)


def reason_of(context, signer=SIGNER, now=NOW):
    with pytest.raises(Refused) as error:
        signer.open(context, now=now)
    return error.value.reason


@given(tickets)
def test_what_was_signed_is_read_back(ticket):
    assert SIGNER.open(SIGNER.context(ticket), now=NOW) == ticket
    assert SIGNER.open_state(SIGNER.state(ticket), now=NOW) == ticket


@given(tickets, st.sampled_from([*FIELDS, "signature"]), st.text())
def test_any_changed_field_is_refused(ticket, field, other):
    context = SIGNER.context(ticket)
    if other == context[field]:
        other += "x"

    assert reason_of(context | {field: other}) is Reason.FORGED


@given(tickets, st.sampled_from([*FIELDS, "signature"]), st.none() | st.integers() | st.lists(st.text()))
def test_what_is_no_text_is_refused(ticket, field, other):
    assert reason_of(SIGNER.context(ticket) | {field: other}) is Reason.FORGED


@given(tickets, st.sampled_from([*FIELDS, "signature"]))
def test_a_missing_field_is_refused(ticket, field):
    context = SIGNER.context(ticket)
    del context[field]

    assert reason_of(context) is Reason.FORGED


@given(tickets, st.integers(0, len(FIELDS) - 2), st.integers(1, 8))
def test_text_cannot_move_from_one_field_to_the_next(ticket, place, length):
    values = list(astuple(ticket))
    values[place], values[place + 1] = values[place][length:], values[place][:length] + values[place + 1]
    moved = Ticket(*values)
    if moved != ticket:
        context = dict(zip(FIELDS, values, strict=True)) | {"signature": SIGNER.context(ticket)["signature"]}
        assert reason_of(context) is Reason.FORGED


@given(tickets, st.binary(min_size=16))
def test_another_key_recognises_nothing(ticket, key):
    if key != b"k" * 32:
        assert reason_of(SIGNER.context(ticket), signer=Signer(key)) is Reason.FORGED


def test_a_ticket_ends_at_its_second():
    ticket = new_ticket("reject", "anomaly-1", now=NOW, life=timedelta(hours=12))
    context = SIGNER.context(ticket)

    assert SIGNER.open(context, now=NOW + timedelta(hours=12, microseconds=-1)) == ticket
    assert reason_of(context, now=NOW + timedelta(hours=12)) is Reason.EXPIRED


def test_a_longer_life_is_a_forgery():
    ticket = new_ticket("reject", "anomaly-1", now=NOW, life=timedelta(hours=1))
    context = SIGNER.context(ticket) | {"expires_at": str(int(ticket.expires_at) + 3600)}

    assert reason_of(context, now=NOW + timedelta(hours=1)) is Reason.FORGED


def test_every_ticket_has_a_nonce_of_its_own():
    first, second = (new_ticket("reject", "anomaly-1", now=NOW, life=timedelta(hours=1)) for _ in range(2))

    assert first.nonce != second.nonce
    assert replace(first, nonce="") == replace(second, nonce="")


@pytest.mark.parametrize("state", ["", "null", "[]", "{", '{"act": "reject"}', "[" * 100_000, '"\\ud800"'])
def test_a_state_that_is_not_ours_is_refused(state):
    with pytest.raises(Refused) as error:
        SIGNER.open_state(state, now=NOW)

    assert error.value.reason is Reason.FORGED


def test_a_signature_of_half_a_character_is_refused():
    context = SIGNER.context(new_ticket("reject", "anomaly-1", now=NOW, life=timedelta(hours=1)))

    assert reason_of(context | {"signature": "\ud800"}) is Reason.FORGED
