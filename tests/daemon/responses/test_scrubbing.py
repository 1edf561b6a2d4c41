"""Flipped bits on a real board: named, told as a fault, put right, never while a response works."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from daemon.incidents.intake import take_verdict
from daemon.responses.board_work import BoardWork
from daemon.responses.scrubbing import Scrubbing
from daemon.responses.steps import APPLY, RETRAIN
from daemon.store import queries
from daemon.store.database import open_database, transaction
from daemon.store.records import IncidentRecord, IncidentState, ResponseRecord, ResponseState
from daemon.store.room_queries import board_operations
from hw.boards.ipbus import IPbusBoard
from hw.registers import ACTIVE_BANK, INACTIVE_BANK
from hw.scrub import ScrubOutcome
from streams.judging.verdict import INTEGRITY, State
from tests.support.board_site import MODEL
from tests.support.control_room import ControlRoom
from tests.support.daemon import HandClock, NoWorkflows, make_verdict


class Room:
    """Scrubbing of one board, and what it leaves in the records."""

    def __init__(self, site_board, **firmware) -> None:
        self.board = site_board
        model = site_board.site.models[MODEL]
        changed = model.settings.firmware.model_copy(update=firmware)
        settings = model.settings.model_copy(update={"firmware": changed})
        self.site = replace(site_board.site, models={MODEL: replace(model, settings=settings)})
        self.engine = open_database(self.site.database_url)
        self.clock, self.workflows = HandClock(), NoWorkflows()
        self.boards = BoardWork(self.engine, self.site, self.clock)
        self.opened, self.contained = [], []
        self.restart()

    def restart(self) -> None:
        """As a new process: nothing is remembered but the database."""
        self.registry = CollectorRegistry()
        self.scrubbing = Scrubbing(
            self.engine,
            self.site,
            self.boards,
            self.workflows,
            self.registry,
            self.clock,
            on_opened=self.opened.append,
            on_contained=lambda: self.contained.append(1),
        )

    def look(self):
        self.clock.move(60)
        return self.scrubbing.look(MODEL)

    def incidents(self):
        return queries.incidents(self.engine)

    def told(self, incident=f"{MODEL}-1"):
        return [(one.kind, one.text) for one in queries.incident(self.engine, incident).events]

    def events(self):
        return [event.kind for event in queries.events(self.engine)]

    def take(self, lumisection, state=State.ALARM, **changes):
        package = self.board.packages.first.id
        verdict = make_verdict(lumisection, state, package=package, **changes)
        return take_verdict(self.engine, self.site, verdict, now=self.clock())

    def metric(self, name):
        for line in generate_latest(self.registry).decode().splitlines():
            if line.startswith(f'{name}{{model="{MODEL}"}}'):
                return float(line.split()[-1])
        return None


@pytest.fixture
def room(site_board):
    made = Room(site_board)
    yield made
    made.engine.dispose()


@pytest.fixture
def looking(site_board):
    made = Room(site_board, scrub_repair=False)
    yield made
    made.engine.dispose()


def test_a_sound_board_leaves_a_time_and_no_event(room):
    assert room.look().outcome is ScrubOutcome.CLEAN
    assert room.events() == []
    assert (
        room.scrubbing.last(MODEL).words == f"all {room.board.packages.first.model.n_words} words are right"
    )
    assert room.metric("lumiwatch_scrub_last_success_timestamp_seconds") == room.clock().timestamp()
    assert room.metric("lumiwatch_scrub_flipped_words_total") == 0


def test_flipped_bits_are_an_incident_that_names_them_and_are_put_right(room):
    room.take(63, State.GOOD)
    room.board.flip("dense2.weight", 5, 0, 30)
    room.board.flip("input.offset", 3, 7)

    report = room.look()

    assert report.outcome is ScrubOutcome.REPAIRED
    assert room.board.right()
    assert room.board.runs == room.board.packages.first.id
    (incident,) = room.incidents()
    assert (incident.state, incident.families) == (IncidentState.RESOLVED, [INTEGRITY])
    assert (incident.run, incident.last_lumisection) == (1, 63)
    kinds = [kind for kind, _ in room.told()]
    assert kinds == ["incident.opened", "incident.resolved"]
    text = room.told()[0][1]
    assert "3 flipped bits in 2 of" in text
    assert "dense2.weight[5]" in text
    assert "bit 0, 30" in text
    assert "input.offset[3]" in text
    assert "Repaired" in text
    (done,) = board_operations(room.engine)
    assert (done.outcome, done.plan_kind, done.operator) == ("applied", "weights", "lumiwatch")
    assert done.golden_mismatches == 0
    assert room.metric("lumiwatch_scrub_flipped_words_total") == 2
    assert room.metric("lumiwatch_scrub_wrong_words") == 0
    assert room.opened == [MODEL]
    assert room.workflows.started == []

    assert room.look().outcome is ScrubOutcome.CLEAN
    assert len(room.incidents()) == 1


def test_the_chat_tells_what_was_found_and_that_it_is_over(room):
    control = ControlRoom(room.engine, room.site, room.clock)
    room.take(63, State.GOOD, simulated=False)
    room.board.flip("dense1.weight", 1, 4)
    room.look()
    control.follow(5)
    (thread,) = control.headlines()
    control.close()
    assert thread[0].startswith("RESOLVED")
    assert control.contained == []
    assert "dense1.weight" in control.server.threads()[0][0]["message"].replace("\\", "")


def test_without_repair_the_incident_stays_until_the_weights_are_right(looking):
    room = looking
    room.take(63, State.GOOD)
    room.board.flip("dense1.bias", 1, 3)

    assert room.look().outcome is ScrubOutcome.FLIPPED
    assert not room.board.right()
    (incident,) = room.incidents()
    assert incident.state is IncidentState.OPEN
    assert "dense1.bias[1]" in incident.reason
    assert room.workflows.started == [f"{MODEL}-1-r1"]
    assert room.metric("lumiwatch_scrub_wrong_words") == 1

    # the same again, also after a restart: nothing new to say
    before = room.told()
    room.look()
    room.restart()
    room.look()
    assert room.told() == before
    assert room.metric("lumiwatch_scrub_flipped_words_total") == 0  # of the new process

    # good verdicts know nothing of it
    room.take(64, State.GOOD)
    assert room.incidents()[0].state is IncidentState.OPEN

    # another word
    room.board.flip("dense1.bias", 2, 3)
    room.look()
    assert room.told()[-1][0] == "incident.scrubbed"
    assert room.metric("lumiwatch_scrub_flipped_words_total") == 1

    # put right by whomever
    room.board.flip("dense1.bias", 1, 3)
    room.board.flip("dense1.bias", 2, 3)
    assert room.look().outcome is ScrubOutcome.CLEAN
    (incident,) = room.incidents()
    assert incident.state is IncidentState.RESOLVED
    assert "right again" in (incident.resolution or "")


def test_flipped_bits_beside_drift_join_its_incident(room):
    room.take(63)
    room.board.flip("dense1.weight", 0, 1)
    room.look()
    (incident,) = room.incidents()
    assert (incident.state, incident.families) == (IncidentState.OPEN, ["inputs", "rate"])
    assert room.told()[-1][0] == "incident.scrubbed"
    assert room.board.right()


def test_bits_that_stay_wrong_beside_drift_make_it_a_firmware_fault(looking):
    room = looking
    taken = room.take(63)
    with transaction(room.engine) as session:
        session.get(ResponseRecord, taken.start_responses[0]).state = ResponseState.PROPOSED
    room.board.flip("dense1.weight", 0, 1)
    room.look()
    (incident,) = room.incidents()
    assert INTEGRITY in incident.families
    assert queries.response(room.engine, f"{MODEL}-1-r1").state is ResponseState.WITHDRAWN
    assert room.workflows.started == [f"{MODEL}-1-r2"]

    # the drift ends, the wrong word does not
    room.take(70, State.GOOD)
    assert room.incidents()[0].state is IncidentState.OPEN
    room.board.flip("dense1.weight", 0, 1)
    room.look()
    assert room.told()[-1][0] == "incident.scrubbed"
    room.take(71, State.GOOD)
    assert room.incidents()[0].state is IncidentState.RESOLVED


def test_while_a_response_works_on_the_board_nobody_looks(room):
    taken = room.take(63)
    room.board.flip("dense1.weight", 0, 1)
    switches = room.boards.identity(MODEL).counters.switches

    def step(name):
        with transaction(room.engine) as session:
            response = session.get(ResponseRecord, taken.start_responses[0])
            response.state, response.current_step = ResponseState.RUNNING, name

    step(APPLY.name)
    assert room.look() is None
    assert "a response works on the board" in room.scrubbing.last(MODEL).words
    assert room.boards.identity(MODEL).counters.switches == switches
    assert not room.board.right()

    # a retraining that has not come to the board yet keeps nobody from looking
    step(RETRAIN.name)
    assert room.look().outcome is ScrubOutcome.REPAIRED
    assert room.board.right()


def test_whoever_works_on_the_board_in_this_process_is_not_disturbed(room):
    begun, end = threading.Event(), threading.Event()

    def work():
        with room.boards.turn(MODEL):
            begun.set()
            end.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(30)
    room.board.flip("dense1.weight", 0, 1)
    assert room.look() is None
    end.set()
    thread.join()
    assert room.look().outcome is ScrubOutcome.REPAIRED


def test_a_configuration_between_look_and_repair_is_never_undone(room, monkeypatch):
    """Another client holds the board's lock, and has switched when the repair gets its turn."""
    room.board.flip("dense1.weight", 0, 1)
    other = IPbusBoard(room.board.board.address)
    second = room.board.packages.second
    exclusive, happened = IPbusBoard.exclusive, []

    def late(board):
        if board is not other and not happened:
            happened.append(board)
            other.load_inactive(second.model.memory())
            other.switch(
                structure_hash=second.manifest.structure_hash,
                weights_hash=second.manifest.weights_hash,
                package_id=second.id,
            )
        return exclusive(board)

    monkeypatch.setattr(IPbusBoard, "exclusive", late)
    room.look()
    other.close()
    assert happened
    assert room.board.runs == second.id
    assert room.board.right()


def test_a_silent_board_is_no_incident(room):
    room.board.announce("127.0.0.1:9")
    assert room.look() is None
    assert "does not answer" in room.scrubbing.last(MODEL).words
    room.board.site.board_file(MODEL).unlink()
    assert room.look() is None
    assert room.events() == []


def test_another_package_is_said_once_and_not_compared(room):
    room.board.flip("dense1.weight", 0, 1)
    room.look()  # a repair: from now on it is known what was loaded from here
    second = room.board.packages.second
    board = IPbusBoard(room.board.board.address)
    board.load_inactive(second.model.memory())
    board.switch(
        structure_hash=second.manifest.structure_hash,
        weights_hash=second.manifest.weights_hash,
        package_id=second.id,
    )
    board.close()
    room.look()
    room.look()
    assert room.events().count("board.other_package") == 1
    assert room.scrubbing.last(MODEL).report.outcome is ScrubOutcome.OTHER_PACKAGE


def test_intervals_count_and_zero_is_never(site_board):
    room = Room(site_board, scrub_interval_s=3600.0)
    room.scrubbing.look_when_due()
    first = room.scrubbing.last(MODEL)
    assert first is not None
    room.clock.move(1)
    room.scrubbing.look_when_due()
    assert room.scrubbing.last(MODEL) is first
    room.engine.dispose()

    never = Room(site_board, scrub_interval_s=0.0)
    never.scrubbing.look_when_due()
    assert never.scrubbing.last(MODEL) is None
    never.engine.dispose()


def test_a_board_over_udp_is_scrubbed_too(room):
    room.board.announce(room.board.board.udp_address)
    room.board.flip("dense1.weight", 0, 1)
    assert room.look().outcome is ScrubOutcome.REPAIRED
    assert room.boards.status(MODEL).reachable


def test_the_incident_of_a_running_response_is_left_to_it(looking):
    room = looking
    room.take(63, State.GOOD)
    room.board.flip("dense1.weight", 0, 1)
    room.look()
    with transaction(room.engine) as session:
        session.get(IncidentRecord, f"{MODEL}-1").state = IncidentState.RESPONDING
    room.board.flip("dense1.weight", 0, 1)
    room.look()
    assert room.incidents()[0].state is IncidentState.RESPONDING


def test_a_repair_that_fails_is_told_and_tried_three_times(room, monkeypatch):
    """The inactive bank has a bit that is stuck: what is loaded is not what is read back."""
    device, loads = room.board.board.device, []
    write = device.write

    def stuck(address, words):
        if INACTIVE_BANK <= address < ACTIVE_BANK:
            loads.append(address)
            words = words ^ np.uint32(1)
        write(address, words)

    monkeypatch.setattr(device, "write", stuck)
    room.take(63, State.GOOD)
    room.board.flip("dense1.weight", 0, 1)
    room.board.flip("dense1.weight", 0, 2, active=False)  # or nothing would have to be loaded

    assert [room.look().outcome for _ in range(3)] == [ScrubOutcome.FAILED] * 3
    tried = len(loads)
    assert tried
    assert [room.look().outcome for _ in range(2)] == [ScrubOutcome.FLIPPED] * 2
    assert len(loads) == tried
    (incident,) = room.incidents()
    assert incident.state is IncidentState.OPEN
    assert "The repair failed: " in incident.reason
    assert "does not hold what was loaded" in incident.reason
    assert len(room.told()) == 1
    assert room.metric("lumiwatch_scrub_flipped_words_total") == 1

    # once it is right, repairs are tried again
    monkeypatch.undo()
    room.board.flip("dense1.weight", 0, 1)
    assert room.look().outcome is ScrubOutcome.CLEAN
    room.board.flip("dense1.weight", 0, 1)
    assert room.look().outcome is ScrubOutcome.REPAIRED


def test_bits_are_told_when_another_client_keeps_the_repair_away(room, monkeypatch):
    monkeypatch.setattr("hw.boards.register_board._LOCK_TIMEOUT_S", 0.1)
    room.board.flip("dense1.weight", 0, 1)
    with closing(IPbusBoard(room.board.board.address)) as somebody, somebody.exclusive():
        assert room.look().outcome is ScrubOutcome.FAILED
    (incident,) = room.incidents()
    assert "another client holds the configuration" in incident.reason
    assert room.look().outcome is ScrubOutcome.REPAIRED
    assert room.incidents()[0].state is IncidentState.RESOLVED


def test_threads_share_a_board_that_takes_one_client(room):
    room.board.announce(room.board.board.udp_address)
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda _: room.boards.status(MODEL), range(60)))
    assert [one.error for one in found if not one.reachable] == []
