import threading
from contextlib import closing
from dataclasses import replace

import pytest

from hw.apply import apply, rollback
from hw.boards.ipbus import IPbusBoard
from hw.emulator import Emulator
from hw.errors import (
    BenchNotPassed,
    BoardUnreachable,
    ContractMismatch,
    GoldenMismatch,
    ShellMismatch,
    SignatureUntrusted,
    StructureMismatch,
)
from hw.package import write_package
from hw.plan import PlanKind
from tests.support.fragile import FragileBoard
from tests.support.hw import FaultyBoard, random_inputs

INPUTS = random_inputs(300, 57)


def assert_runs(board, package):
    done = board.process(INPUTS)
    assert done.package_id == package.id
    assert (done.scores == Emulator(package.model).scores(INPUTS)).all()


def test_new_weights_are_loaded_proved_and_rolled_back(board, packages):
    report = apply(packages.second, board, packages.trusted, contract_hash="c0ffee")
    assert (report.outcome, report.plan_kind, report.simulated) == ("applied", PlanKind.WEIGHTS, True)
    assert (report.from_package, report.to_package) == (packages.first.id, packages.second.id)
    assert report.loaded_words == packages.second.model.n_words
    assert (report.golden_events, report.golden_mismatches) == (packages.second.manifest.golden_count, 0)
    assert_runs(board, packages.second)

    back = rollback(board, packages.first, packages.trusted)
    assert (back.outcome, back.loaded_words) == ("applied", 0)  # its weights were still in the other bank
    assert_runs(board, packages.first)


def test_doing_it_twice_changes_nothing(board, packages):
    apply(packages.second, board, packages.trusted)
    again = apply(packages.second, board, packages.trusted)
    assert (again.outcome, again.plan_kind, again.loaded_words) == ("unchanged", PlanKind.NOTHING, 0)
    assert board.identify().counters.switches == 1


def test_a_failed_golden_vector_brings_the_old_weights_back(board, packages):
    report = apply(packages.second, FaultyBoard(board, packages.second.id), packages.trusted)
    assert report.outcome == "rolled_back"
    assert not report.ok
    assert report.golden_mismatches == report.golden_events
    assert_runs(board, packages.first)


def test_a_running_package_that_fails_is_an_error(board, packages):
    with pytest.raises(GoldenMismatch, match="prescale it out"):
        apply(packages.first, FaultyBoard(board, packages.first.id), packages.trusted)


def test_another_structure_needs_permission_and_the_board_stays_untouched(board, packages):
    before = board.identify()
    with pytest.raises(ShellMismatch, match="approve a full reconfiguration"):
        apply(packages.other, board, packages.trusted)
    after = board.identify()
    assert replace(after, counters=before.counters) == before
    assert (board.read_back() == packages.first.model.memory()).all()


def test_with_permission_the_whole_firmware_is_replaced(board, packages):
    report = apply(packages.other, board, packages.trusted, approved=PlanKind.FULL)
    assert (report.outcome, report.plan_kind) == ("applied", PlanKind.FULL)
    assert_runs(board, packages.other)


def test_a_new_firmware_that_fails_is_replaced_by_the_previous_one(board, packages):
    faulty = FaultyBoard(board, packages.other.id)
    report = apply(packages.other, faulty, packages.trusted, approved=PlanKind.FULL, previous=packages.first)
    assert report.outcome == "rolled_back"
    assert_runs(board, packages.first)
    with pytest.raises(GoldenMismatch, match="known to be good"):
        apply(packages.other, faulty, packages.trusted, approved=PlanKind.FULL)


@pytest.fixture
def fragile(partitioned, tmp_path):
    with (
        FragileBoard(partitioned, tmp_path / "flash") as served,
        closing(IPbusBoard(served.address)) as board,
    ):
        yield served, board


def assert_right(board, package):
    done = board.process(package.golden_inputs)
    assert done.package_id == package.id
    assert (done.scores == package.golden_scores).all()


def test_one_partition_is_replaced_and_put_back(fragile, partitioned):
    _, board = fragile
    with pytest.raises(StructureMismatch, match="approve a partial reconfiguration"):
        apply(partitioned.other, board, partitioned.trusted)
    report = apply(partitioned.other, board, partitioned.trusted, approved=PlanKind.PARTIAL)
    assert (report.outcome, report.plan_kind) == ("applied", PlanKind.PARTIAL)
    assert board.identify().counters.replacements == 1
    assert_right(board, partitioned.other)
    rollback(board, partitioned.first, partitioned.trusted)
    assert_right(board, partitioned.first)


def test_a_new_partition_that_fails_is_replaced_by_the_previous_one(fragile, partitioned):
    _, board = fragile
    faulty = FaultyBoard(board, partitioned.other.id)
    options = {"approved": PlanKind.PARTIAL, "previous": partitioned.first}
    report = apply(partitioned.other, faulty, partitioned.trusted, **options)
    assert report.outcome == "rolled_back"
    assert_right(board, partitioned.first)


def test_what_was_undone_does_not_come_back_after_a_loss_of_power(fragile, partitioned):
    served, board = fragile
    apply(partitioned.second, FaultyBoard(board, partitioned.second.id), partitioned.trusted)
    served.restart()
    with closing(IPbusBoard(served.address)) as again:
        assert_right(again, partitioned.first)


def test_previous_weights_that_are_lost_are_said(fragile, partitioned):
    """The new weights fail, and the bank of the old ones is not what it was."""
    served, board = fragile
    faulty = FaultyBoard(board, partitioned.second.id)
    process = faulty.process

    def flip_then_process(inputs):
        fabric = served.device.device._fabric
        fabric.banks[1 - fabric.active][5] ^= 1
        return process(inputs)

    faulty.process = flip_then_process
    with pytest.raises(GoldenMismatch, match=r"previous weights are lost .*prescale it out"):
        apply(partitioned.second, faulty, partitioned.trusted)


def test_what_must_not_go_onto_a_board_never_reaches_it(board, packages, tmp_path):
    with pytest.raises(SignatureUntrusted):
        apply(packages.second, board, ())
    with pytest.raises(ContractMismatch, match="build it for the site's contract"):
        apply(packages.second, board, packages.trusted, contract_hash="another")
    second = packages.second
    fields = {
        "model": second.model,
        "images": second.images,
        "golden_inputs": second.golden_inputs,
        "toolchain": second.manifest.toolchain,
        "version": "x",
        "key": packages.key,
    }
    for bench in (None, packages.first.manifest.bench):
        unproved = write_package(tmp_path / "unproved.lwpkg", bench=bench, **fields)
        with pytest.raises(BenchNotPassed, match="no passed bench of its own weights"):
            apply(unproved, board, packages.trusted)
    stage = second.manifest.bench.stages[1].model_copy(update={"mismatching_bits": 1})
    failed = second.manifest.bench.model_copy(update={"stages": (second.manifest.bench.stages[0], stage)})
    unproved = write_package(tmp_path / "unproved.lwpkg", bench=failed, **fields)
    with pytest.raises(BenchNotPassed):
        apply(unproved, board, packages.trusted)
    identity = board.identify()
    assert (identity.package_id, identity.counters.switches) == (packages.first.id, 0)


def test_a_board_that_does_not_answer_is_named(packages):
    with pytest.raises(BoardUnreachable, match=r"board at 127\.0\.0\.1:1 does not answer"):
        apply(packages.second, IPbusBoard("127.0.0.1:1"), packages.trusted)


def test_events_keep_flowing_while_weights_are_replaced(board, running, packages):
    expected = {p.id: Emulator(p.model).scores(INPUTS) for p in (packages.first, packages.second)}
    seen, failures = [], []
    stop = threading.Event()

    def stream():
        producer = IPbusBoard(running.address)
        while not stop.is_set():
            done = producer.process(INPUTS)
            seen.append(done.package_id)
            if (done.scores != expected[done.package_id]).any():
                failures.append(done.package_id)
        producer.close()

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        while len(seen) < 3:
            stop.wait(0.01)
        report = apply(packages.second, board, packages.trusted)
        count = len(seen)
        while len(seen) < count + 3:
            stop.wait(0.01)
    finally:
        stop.set()
        thread.join()
    assert report.outcome == "applied"
    assert not failures
    assert (seen[0], seen[-1]) == (packages.first.id, packages.second.id)
    assert seen == sorted(seen, key=[packages.first.id, packages.second.id].index)
