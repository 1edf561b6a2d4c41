import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hw.apply import apply
from hw.board import Board
from hw.boards.device import BusError
from hw.boards.pynq import PynqBoard, find_pynq, install_bitstreams
from hw.emulator import Emulator
from hw.errors import BoardError, BoardRefused, BoardUnreachable
from hw.package import board_content, write_package
from hw.plan import PlanKind
from tests.support.hw import SignedPackages, random_inputs
from tests.support.pynq import FakePynq, bitstreams


@dataclass(frozen=True)
class Built:
    """Packages with bitstreams, and the folder where these are installed."""

    packages: SignedPackages
    folder: Path

    def pynq(self):
        each = {"first": self.packages.first, "second": self.packages.second, "other": self.packages.other}
        return FakePynq(each, self.packages.trusted)

    def board(self, pynq, package=None, **options):
        content = (package or self.packages.first).content
        block = options.pop("block", "lumiwatch_0")
        trusted = options.pop("trusted", self.packages.trusted)
        return PynqBoard(block, self.folder, trusted, content, pynq=pynq, **options)


@pytest.fixture(scope="module")
def built(partitioned, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pynq")

    def with_bitstreams(package, name, *partitions):
        return write_package(
            folder / f"{name}.lwpkg",
            model=package.model,
            images=package.images,
            golden_inputs=package.golden_inputs,
            bench=package.manifest.bench,
            toolchain=package.manifest.toolchain,
            version=name,
            key=partitioned.key,
            artefacts=bitstreams(name, *partitions),
        )

    made = replace(
        partitioned,
        first=with_bitstreams(partitioned.first, "first", "p0", "p1"),
        other=with_bitstreams(partitioned.other, "other", "p0", "p1"),
    )
    for package in (made.first, made.other):
        install_bitstreams(package, folder / "bitstreams")
    return Built(made, folder / "bitstreams")


def assert_runs(board, package):
    inputs = random_inputs(50, package.model.n_inputs)
    done = board.process(inputs)
    assert done.package_id == package.id
    assert (done.scores == Emulator(package.model).scores(inputs)).all()
    assert (board.read_back(active=True) == package.model.memory()).all()


def test_it_is_a_board_that_runs_what_it_was_opened_with(built):
    pynq = built.pynq()
    board: Board = built.board(pynq)
    assert board.address == "pynq://lumiwatch_0"
    assert pynq.downloads == [("first", "full")]
    assert_runs(board, built.packages.first)
    board.close()


def test_new_weights_need_no_bitstream(built):
    pynq, packages = built.pynq(), built.packages
    board = built.board(pynq)
    report = apply(packages.second, board, packages.trusted)
    assert (report.outcome, report.plan_kind) == ("applied", PlanKind.WEIGHTS)
    assert_runs(board, packages.second)
    assert pynq.downloads == [("first", "full")]


def test_a_changed_partition_is_replaced_alone(built):
    pynq, packages = built.pynq(), built.packages
    board = built.board(pynq)
    report = apply(packages.other, board, packages.trusted, approved=PlanKind.PARTIAL)
    assert (report.outcome, report.plan_kind) == ("applied", PlanKind.PARTIAL)
    assert pynq.downloads[1:] == [("other", "p1")]
    assert_runs(board, packages.other)
    back = apply(packages.first, board, packages.trusted, approved=PlanKind.PARTIAL)
    assert back.plan_kind is PlanKind.PARTIAL
    assert_runs(board, packages.first)


def test_a_whole_firmware_is_booted(built):
    pynq, packages = built.pynq(), built.packages
    board = built.board(pynq)
    assert board.boot(board_content(packages.other)).package_id == packages.other.id
    assert pynq.downloads[1:] == [("other", "full")]
    assert_runs(board, packages.other)


def test_without_its_bitstreams_a_package_is_refused_and_the_old_one_runs_on(built, packages):
    pynq, ours = built.pynq(), built.packages
    board = built.board(pynq)
    with pytest.raises(BoardRefused, match=r"has no bitstreams/full\.bit: build it for PYNQ"):
        board.boot(ours.second.content)
    with pytest.raises(BoardRefused, match="not signed by a trusted key"):
        board.boot(packages.other.content)
    assert len(pynq.downloads) == 1
    assert_runs(board, ours.first)


@pytest.mark.parametrize("suffix", [".bit", ".hwh"])
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"first p1 x")])
def test_a_bitstream_that_is_not_the_signed_one_is_never_downloaded(suffix, damage, built, tmp_path):
    packages, pynq = built.packages, built.pynq()
    here = Built(packages, tmp_path)
    for package in (packages.first, packages.other):
        install_bitstreams(package, tmp_path)
    board = here.board(pynq)
    for name in (
        packages.other.manifest.structure_hash,
        packages.other.manifest.partitions[1].structure_hash,
    ):
        damage(tmp_path / f"{name}{suffix}")
    for bring in (board.boot, board.replace):
        with pytest.raises(BoardRefused, match="install its bitstreams"):
            bring(packages.other.content)
    assert len(pynq.downloads) == 1
    assert_runs(board, packages.first)


def test_partitions_for_another_static_part_are_refused(built, packages):
    board = built.board(built.pynq(), trusted=(*built.packages.trusted, *packages.trusted))
    with pytest.raises(BoardRefused, match="another static part"):
        board.replace(packages.first.content)
    assert_runs(board, built.packages.first)


def test_a_download_that_fails_is_said(built):
    pynq, packages = built.pynq(), built.packages
    board = built.board(pynq)

    def broken(path, partition=None):
        raise RuntimeError("device is busy")

    pynq.configure = broken
    for bring in (board.boot, board.replace):
        with pytest.raises(BoardError, match=r"device is busy.*known to be good"):
            bring(packages.other.content)


def test_a_bitstream_of_another_structure_is_noticed(built):
    pynq = built.pynq()
    pynq.packages["first"] = built.packages.other
    with pytest.raises(BoardError, match="lacks structure"):
        built.board(pynq)


def test_a_wrong_block_is_named(built):
    with pytest.raises(BoardError, match="no block 'elsewhere'"):
        built.board(built.pynq(), block="elsewhere")


def test_an_access_that_fails_is_said(built):
    pynq = built.pynq()
    board = built.board(pynq)
    pynq.device.write = _refuse
    with pytest.raises(BoardError, match=r"an access failed .*bus error"), board.exclusive():
        pass


def _refuse(address, words):
    raise BusError


def test_without_pynq_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynq", None)
    with pytest.raises(BoardUnreachable, match="run lumiwatch on the board, whose image brings pynq"):
        find_pynq()
