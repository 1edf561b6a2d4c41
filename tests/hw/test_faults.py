"""Whatever happens while a package is applied, the board answers with the old or the new one, whole.

Every case is a seed: it draws the access at which the fault falls. After it every word is read back and every
golden vector played; then applying again must bring the new package.
"""

import os
import random
from contextlib import closing

import numpy as np
import pytest

from hw.apply import apply
from hw.boards.emulated import start_emulated_board
from hw.boards.faults import Faults
from hw.boards.ipbus import IPbusBoard
from hw.errors import BoardError
from hw.plan import PlanKind
from hw.scrub import ScrubOutcome, scrub
from tests.support.fragile import FragileBoard, killed_client

_CALLS = 20
"""Times that a client asks a board for something while it applies new weights."""


@pytest.fixture(scope="module")
def accesses(packages, tmp_path_factory):
    """Count the accesses and the bus calls of an apply that nothing disturbs, by target."""
    counts = {}
    for name in ("second", "other"):
        with FragileBoard(packages, tmp_path_factory.mktemp("flash")) as fragile:
            fragile.device.happen(0, None)
            bring(packages, name, fragile.address)
            counts[name] = fragile.device.accesses
    return counts


@pytest.fixture(scope="module")
def replacing(partitioned, tmp_path_factory):
    """Count the accesses that replacing a partition takes."""
    with FragileBoard(partitioned, tmp_path_factory.mktemp("flash")) as fragile:
        assert bring(partitioned, "other", fragile.address).plan_kind is PlanKind.PARTIAL
        return fragile.device.accesses


def bring(packages, name, address, **options):
    with closing(IPbusBoard(address, **options)) as board:
        return apply(getattr(packages, name), board, packages.trusted, approved=PlanKind.FULL)


def running(packages, address):
    """Say which package the board runs, after making sure that it runs all of it."""
    with closing(IPbusBoard(address)) as board:
        while True:
            identity = board.identify()
            words = board.read_back(active=True)
            package = {p.id: p for p in (packages.first, packages.second, packages.other)}[
                identity.package_id
            ]
            done = board.process(package.golden_inputs)
            if board.identify().epoch == identity.epoch:  # else a command that was under way came through
                break
    assert identity.structure_hash == package.model.structure_hash
    assert identity.weights_hash == package.model.weights_hash
    assert np.array_equal(words, package.model.memory())
    assert done.package_id == package.id
    assert (done.scores == package.golden_scores).all()
    assert (done.accepts == (package.golden_scores > package.model.score_stage.threshold_raw)).all()
    return package


def interrupted(packages, name, address, **options):
    """Apply, whatever happens; true when it went through."""
    try:
        return bring(packages, name, address, **options).ok
    except BoardError:
        return False


def moment(seed, last):
    return random.Random(seed).randint(1, last)


def finish(packages, name, fragile, address=None):
    """Make sure that the old or the new package runs, and that the new one can be brought."""
    address = address or fragile.address
    fragile.clock.outlast_leases()
    assert running(packages, address) in (packages.first, getattr(packages, name))
    assert bring(packages, name, address).ok
    assert running(packages, address) is getattr(packages, name)


@pytest.mark.parametrize("seed", range(60))
def test_a_connection_that_breaks(seed, packages, accesses, tmp_path):
    with FragileBoard(packages, tmp_path) as fragile:
        fragile.happen(moment(seed, accesses["second"]), "cut")
        interrupted(packages, "second", fragile.address)
        finish(packages, "second", fragile)


@pytest.mark.parametrize("seed", range(60))
def test_a_board_that_loses_power_starts_with_what_was_proven_last(seed, packages, accesses, tmp_path):
    with FragileBoard(packages, tmp_path) as fragile:
        fragile.happen(moment(seed, accesses["second"]), "power")
        proven = interrupted(packages, "second", fragile.address)
        fragile.restart()
        if proven:
            assert running(packages, fragile.address) is packages.second
        finish(packages, "second", fragile)
        fragile.restart()
        assert running(packages, fragile.address) is packages.second


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("fault", ["cut", "power"])
def test_a_whole_firmware_that_is_interrupted(fault, seed, packages, accesses, tmp_path):
    with FragileBoard(packages, tmp_path) as fragile:
        fragile.happen(moment(seed, accesses["other"]), fault)
        interrupted(packages, "other", fragile.address)
        if fault == "power":
            fragile.restart()
        finish(packages, "other", fragile)


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("fault", ["cut", "power"])
def test_partitions_that_are_interrupted(fault, seed, partitioned, replacing, tmp_path):
    with FragileBoard(partitioned, tmp_path) as fragile:
        fragile.happen(moment(seed, replacing), fault)
        interrupted(partitioned, "other", fragile.address)
        if fault == "power":
            fragile.restart()
        finish(partitioned, "other", fragile)
        fragile.restart()
        assert running(partitioned, fragile.address) is partitioned.other


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("transport", ["address", "udp_address"])
def test_a_client_process_that_is_killed(transport, seed, packages, tmp_path):
    with FragileBoard(packages, tmp_path) as fragile:
        address = getattr(fragile, transport)
        child = os.fork()
        if child == 0:
            with killed_client(moment(seed, _CALLS)):
                bring(packages, "second", address)
            os._exit(0)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        finish(packages, "second", fragile, address)


@pytest.mark.parametrize("seed", range(3))
def test_a_board_process_that_dies_under_load_starts_again_from_its_flash(seed, packages, tmp_path):
    faults = Faults(die_after_writes=moment(seed, 11))
    board = {"package": packages.first.path, "trusted_keys": packages.trusted_path, "flash": tmp_path}
    with start_emulated_board(**board, faults=faults) as dying:
        assert not interrupted(packages, "second", dying.address)
    with start_emulated_board(**board) as again:
        assert running(packages, again.address) is packages.first
        assert bring(packages, "second", again.address).ok
    with start_emulated_board(**board) as again:
        assert running(packages, again.address) is packages.second


@pytest.mark.parametrize("seed", range(15))
def test_lost_datagrams_do_not_keep_a_package_from_the_board(seed, packages, tmp_path):
    with FragileBoard(packages, tmp_path, faults=Faults(drop=0.08, seed=seed)) as fragile:
        assert bring(packages, "second", fragile.udp_address).ok
        assert running(packages, fragile.address) is packages.second


@pytest.mark.parametrize("seed", range(10))
def test_answers_that_come_too_late(seed, packages, accesses, tmp_path):
    with FragileBoard(packages, tmp_path) as fragile:
        fragile.happen(moment(seed, accesses["second"]), "slow")
        interrupted(packages, "second", fragile.address, timeout_s=0.04)
        finish(packages, "second", fragile)


@pytest.mark.parametrize("seed", range(40))
def test_a_bit_that_flips_while_a_package_is_applied_is_noticed(seed, packages, accesses, tmp_path):
    """The last chance is the command that keeps the package: what flips behind it is for scrubbing."""
    with FragileBoard(packages, tmp_path) as fragile:
        fragile.happen(moment(seed, accesses["second"] - 2), "flip")
        if interrupted(packages, "second", fragile.address):
            assert running(packages, fragile.address) is packages.second
        assert bring(packages, "second", fragile.address).ok
        assert running(packages, fragile.address) is packages.second


@pytest.mark.parametrize("seed", range(20))
def test_a_bit_that_flips_in_the_field_is_found_and_put_right(seed, packages, tmp_path):
    with FragileBoard(packages, tmp_path) as fragile, closing(IPbusBoard(fragile.address)) as board:
        before = board.read_back(active=True)
        fragile.device.flip_bit(random.Random(seed))
        hit = not np.array_equal(board.read_back(active=True), before)
        report = scrub(packages.first, board, packages.trusted)
        assert report.outcome is (ScrubOutcome.REPAIRED if hit else ScrubOutcome.CLEAN)
        assert report.flipped_bits == int(hit)
        assert running(packages, fragile.address) is packages.first
