"""Boards by hand: only by who may, only what was allowed, never beside a response, all written down."""

from contextlib import closing
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from sqlmodel import Session

from daemon.access.control import AccessControl
from daemon.errors import InvalidChoice, NotFound, NotPermitted, NotPossibleNow
from daemon.incidents.intake import take_verdict
from daemon.responses.board_work import BoardWork
from daemon.responses.by_hand import ByHand
from daemon.responses.scrubbing import Scrubbing
from daemon.store import queries
from daemon.store.database import open_database, transaction
from daemon.store.records import IncidentState, ResponseRecord, ResponseState
from daemon.store.room_queries import board_operations
from hw.boards.ipbus import IPbusBoard
from hw.package import write_package
from hw.records import PackageRecord, last_package
from hw.scrub import ScrubOutcome
from tests.support.access import CHEAP
from tests.support.board_site import MODEL
from tests.support.daemon import Everybody, HandClock, NoWorkflows, make_verdict, with_policy


class Hands:
    """What a person does, and what is written down of it."""

    def __init__(self, site_board, **policy) -> None:
        self.board = site_board
        self.site = with_policy(site_board.site, **policy) if policy else site_board.site
        self.engine = open_database(self.site.database_url)
        self.clock = HandClock()
        self.boards = BoardWork(self.engine, self.site, self.clock)
        self.scrubbing = Scrubbing(
            self.engine, self.site, self.boards, NoWorkflows(), CollectorRegistry(), self.clock
        )
        self.by_hand = self.of(Everybody())
        self.first, self.second, self.other = (
            site_board.packages.first,
            site_board.packages.second,
            site_board.packages.other,
        )
        for package in (self.second, self.other):
            (self.site.packages_dir / f"{package.id}.lwpkg").write_bytes(package.content)

    def of(self, access):
        return ByHand(self.engine, self.site, self.boards, self.scrubbing, access, self.clock)

    def apply(self, package, allow="weights", operator="local"):
        return self.by_hand.apply(
            MODEL, package.id, allow, planned_from=self.board.runs, operator=operator, why="a test"
        )

    def events(self):
        return [(event.kind, event.actor, event.text) for event in queries.events(self.engine)]


@pytest.fixture
def hands(site_board):
    made = Hands(site_board)
    yield made
    made.engine.dispose()


def test_a_package_is_planned_loaded_proven_written_down_and_taken_back(hands):
    plan = hands.by_hand.plan(MODEL, hands.second.id)
    assert (plan.kind, plan.from_package, plan.to_package) == ("weights", hands.first.id, hands.second.id)
    assert plan.transfer_bytes > 0
    assert plan.lost

    report = hands.apply(hands.second)

    assert (report.outcome, report.golden_mismatches) == ("applied", 0)
    assert hands.board.runs == hands.second.id
    (done,) = board_operations(hands.engine)
    assert (done.operator, done.model, done.to_package) == ("local", MODEL, hands.second.id)
    with Session(hands.engine) as session:
        assert last_package(session, MODEL).id == hands.second.id
    (asked, kind_asked), (ended, kind_ended) = [(text, kind) for kind, _, text in hands.events()]
    assert (kind_asked, kind_ended) == ("board.asked", "board.applied")
    assert asked.endswith("a test")
    assert hands.second.short_id in ended

    assert hands.by_hand.plan(MODEL, None).to_package == hands.first.id
    back = hands.by_hand.roll_back(MODEL, planned_from=hands.second.id, operator="local", why="worse")
    assert (back.outcome, hands.board.runs) == ("applied", hands.first.id)
    assert hands.events()[-1][:2] == ("board.rolled_back", "local")


def test_only_the_plan_that_was_allowed_is_carried_out(hands):
    with pytest.raises(InvalidChoice, match=r"the plan is partial .*--allow partial"):
        hands.apply(hands.other)
    assert hands.board.runs == hands.first.id
    assert hands.events() == []

    report = hands.apply(hands.other, allow="partial")
    assert (report.plan_kind, hands.board.runs) == ("partial", hands.other.id)


def test_a_board_that_changed_since_the_plan_is_not_touched(hands):
    hands.apply(hands.second)
    with pytest.raises(NotPossibleNow, match="look at the plan again"):
        hands.by_hand.apply(
            MODEL, hands.other.id, "full", planned_from=hands.first.id, operator="local", why="late"
        )
    with pytest.raises(NotPossibleNow, match="look at the plan again"):
        hands.by_hand.roll_back(MODEL, planned_from=hands.first.id, operator="local", why="late")
    assert hands.board.runs == hands.second.id


@pytest.mark.parametrize("state", [ResponseState.PROPOSED, ResponseState.RUNNING])
def test_a_response_that_is_open_goes_first(hands, state):
    taken = take_verdict(
        hands.engine, hands.site, make_verdict(63, package=hands.first.id), now=hands.clock()
    )
    with transaction(hands.engine) as session:
        session.get(ResponseRecord, taken.start_responses[0]).state = state
    before = hands.events()
    for act in (
        lambda: hands.apply(hands.second),
        lambda: hands.by_hand.roll_back(MODEL, planned_from=hands.first.id, operator="local", why="x"),
        lambda: hands.by_hand.scrub(MODEL, repair=True, operator="local", why="x"),
    ):
        with pytest.raises(NotPossibleNow, match=f"response {MODEL}-1-r1 of {MODEL} is {state.value}"):
            act()
    assert hands.events() == before
    assert hands.boards.identity(MODEL).counters.switches == 0


def test_what_is_done_during_an_incident_is_in_its_history(hands):
    taken = take_verdict(
        hands.engine, hands.site, make_verdict(63, package=hands.first.id), now=hands.clock()
    )
    with transaction(hands.engine) as session:
        session.get(ResponseRecord, taken.start_responses[0]).state = ResponseState.REJECTED
    hands.apply(hands.second)
    kinds = [event.kind for event in queries.incident(hands.engine, f"{MODEL}-1").events]
    assert kinds == ["incident.opened", "board.asked", "board.applied"]


def test_only_an_approver_with_the_role_works_on_a_board(hands):
    access = AccessControl(hands.engine, hands.site, hands.clock, CHEAP)
    with pytest.raises(NotPermitted, match="nobody here"):
        hands.of(access).scrub(MODEL, repair=True, operator="eve", why="x")
    with pytest.raises(NotPermitted, match="approvers of anomaly are local"):
        hands.apply(hands.second, operator="olga")
    assert hands.board.runs == hands.first.id


def test_where_two_people_are_asked_one_loads_nothing_but_may_go_back(site_board):
    hands = Hands(site_board)
    hands.apply(hands.second)
    hands.engine.dispose()
    two = Hands(site_board, approvers=("local", "ada"), hardware_approvals_needed=1)
    with pytest.raises(NotPossibleNow, match="asks 2 people"):
        two.apply(two.other, allow="full")
    assert two.board.runs == two.second.id
    two.by_hand.roll_back(MODEL, planned_from=two.second.id, operator="local", why="worse")
    assert two.board.runs == two.first.id
    two.engine.dispose()


def test_no_bench_no_board(hands):
    unproven = write_package(
        hands.site.packages_dir / "unproven.lwpkg",
        model=hands.second.model,
        images=dict(hands.second.images),
        golden_inputs=hands.second.golden_inputs,
        bench=None,
        toolchain=hands.second.manifest.toolchain,
        version="unproven",
        key=hands.board.packages.key,
    )
    (hands.site.packages_dir / f"{unproven.id}.lwpkg").write_bytes(unproven.content)
    with pytest.raises(NotPossibleNow, match="no passed bench"):
        hands.apply(unproven)
    assert hands.events() == []


def test_a_package_of_another_model_or_of_nobody_is_refused(hands):
    model = replace(hands.second.model, name="topology")
    stranger = write_package(
        hands.site.packages_dir / "topology.lwpkg",
        model=model,
        images=dict(hands.second.images),
        golden_inputs=hands.second.golden_inputs,
        bench=hands.second.manifest.bench,
        toolchain=hands.second.manifest.toolchain,
        version="1",
        key=hands.board.packages.key,
    )
    (hands.site.packages_dir / f"{stranger.id}.lwpkg").write_bytes(stranger.content)
    with pytest.raises(InvalidChoice, match="is of model topology, not anomaly"):
        hands.apply(stranger)
    with pytest.raises(NotFound, match="not at this site"):
        hands.by_hand.plan(MODEL, "0" * 64)


def test_a_board_without_history_has_nothing_to_go_back_to(hands):
    with pytest.raises(NotPossibleNow, match="nothing is known to have run"):
        hands.by_hand.plan(MODEL, None)


def test_a_silent_board_and_one_that_others_configure_are_said(hands, monkeypatch):
    monkeypatch.setattr("hw.boards.register_board._LOCK_TIMEOUT_S", 0.1)
    with (
        closing(IPbusBoard(hands.board.board.address)) as somebody,
        somebody.exclusive(),
        pytest.raises(NotPossibleNow, match="another client holds the configuration"),
    ):
        hands.apply(hands.second)
    assert hands.board.runs == hands.first.id
    assert [kind for kind, _, _ in hands.events()] == ["board.asked", "board.failed"]

    hands.board.announce("127.0.0.1:9")
    with pytest.raises(NotPossibleNow, match="does not answer"):
        hands.by_hand.plan(MODEL, hands.second.id)


def test_a_scrub_by_hand_names_who_and_why(hands):
    hands.board.flip("dense1.weight", 2, 9)
    looked = hands.by_hand.scrub(MODEL, repair=False, operator="local", why="after the beam dump")
    assert looked.report.outcome is ScrubOutcome.FLIPPED
    assert looked.incident == f"{MODEL}-1"
    kind, actor, text = hands.events()[0]
    assert (kind, actor) == ("board.scrubbed", "local")
    assert "dense1.weight[2]" in text
    assert text.endswith("after the beam dump")
    opened = queries.incident(hands.engine, f"{MODEL}-1")
    assert opened.state is IncidentState.OPEN
    assert (opened.run, opened.last_lumisection) == (0, 0)  # nothing was judged yet

    with transaction(hands.engine) as session:
        session.get(ResponseRecord, f"{MODEL}-1-r1").state = ResponseState.REJECTED
    again = hands.by_hand.scrub(MODEL, repair=True, operator="local", why="now mend it")
    assert again.report.outcome is ScrubOutcome.REPAIRED
    assert hands.board.right()
    assert queries.incident(hands.engine, f"{MODEL}-1").state is IncidentState.RESOLVED
    (done,) = board_operations(hands.engine)
    assert done.operator == "local"


def test_a_package_from_elsewhere_is_known_once_it_was_loaded(hands):
    with Session(hands.engine) as session:
        assert session.get(PackageRecord, hands.second.id) is None
    hands.apply(hands.second)
    with Session(hands.engine) as session:
        assert session.get(PackageRecord, hands.second.id).name == MODEL
