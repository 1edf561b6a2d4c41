import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hw import archive
from hw.boards import flash as flash_module
from hw.boards.device import Device
from hw.boards.fabric import Configuration, Fabric
from hw.boards.flash import Flash
from hw.errors import FlashDamaged, ImageError
from hw.registers import Command, Register, Result

ME = 7


@pytest.fixture
def flash(tmp_path):
    return Flash(tmp_path / "flash")


def reconfigured(packages):
    """Give what a board holds that booted the first package and took over the weights of the second."""
    second = packages.second
    return Configuration(packages.first, second.model.memory(), second.id, second.model.weights_hash)


def same(one, other):
    return (
        one.package.id == other.package.id
        and (one.bank == other.bank).all()
        and (one.package_id, one.weights_hash) == (other.package_id, other.weights_hash)
    )


def test_what_is_stored_comes_back(flash, packages):
    assert flash.load(packages.trusted) is None
    for stored in (
        Configuration.of(packages.first),
        reconfigured(packages),
        Configuration.of(packages.other),
    ):
        flash.store(stored)
        assert same(flash.load(packages.trusted), stored)


def kill_at(moment):
    """Kill this process when the flash is being written."""
    opened, renamed = os.fdopen, Path.replace

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def rename(path, target):
        renamed(path, target)
        die()

    if moment == "half the bytes":
        archive.os.fdopen = lambda handle, mode: _Torn(opened(handle, mode), die)
    else:
        Path.replace = die if moment == "before the new name" else rename


class _Torn:
    def __init__(self, stream, die):
        self._stream, self._die = stream, die

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.close()

    def write(self, content):
        self._stream.write(content[: len(content) // 2])
        self._stream.flush()
        self._die()


@pytest.mark.parametrize(
    ("moment", "expected"),
    [("half the bytes", "old"), ("before the new name", "old"), ("after the new name", "new")],
)
def test_whoever_dies_while_storing_leaves_the_old_or_the_new_whole(moment, expected, flash, packages):
    old, new = Configuration.of(packages.first), reconfigured(packages)
    flash.store(old)
    child = os.fork()
    if child == 0:
        kill_at(moment)
        flash.store(new)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert same(flash.load(packages.trusted), {"old": old, "new": new}[expected])


def test_what_was_not_stored_by_the_board_is_refused(flash, packages, tmp_path):
    stored = reconfigured(packages)
    flash.store(stored)
    with pytest.raises(FlashDamaged, match="not signed by a trusted key"):
        flash.load(())
    path = tmp_path / "flash" / "configuration.zip"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:-300] + bytes(300)):
        path.write_bytes(damaged)
        with pytest.raises(FlashDamaged, match=r"remove configuration\.zip there"):
            flash.load(packages.trusted)
    bank = stored.bank.copy()
    bank[5] ^= 1
    flash.store(replace(stored, bank=bank))
    with pytest.raises(FlashDamaged, match="not those that were stored"):
        flash.load(packages.trusted)


def test_the_same_is_not_written_twice(flash, packages, tmp_path):
    flash.store(Configuration.of(packages.first))
    path = tmp_path / "flash" / "configuration.zip"
    before = path.stat().st_ino
    flash.store(Configuration.of(packages.first))
    assert path.stat().st_ino == before


def command(device, word):
    device.write(Register.CONFIG_LOCK, np.array([ME], np.uint32))
    device.write(Register.COMMAND, np.array([word], np.uint32))
    return Result(int(device.read(Register.RESULT, 1)[0]))


def test_a_board_keeps_its_first_package_and_what_is_committed(flash, packages):
    device = Device(packages.first, packages.trusted, flash=flash)
    assert same(flash.load(packages.trusted), Configuration.of(packages.first))
    device._fabric = Fabric(reconfigured(packages))
    assert same(flash.load(packages.trusted), Configuration.of(packages.first))
    assert command(device, Command.COMMIT) is Result.DONE

    again = Device(packages.other, packages.trusted, flash=flash)
    assert same(again._fabric.configuration(), reconfigured(packages))


def test_weights_that_are_no_longer_right_are_not_kept(flash, packages):
    device = Device(packages.first, packages.trusted, flash=flash)
    device._fabric.banks[device._fabric.active][100] ^= 1
    assert command(device, Command.COMMIT) is Result.BAD_CHECKSUM
    assert same(flash.load(packages.trusted), Configuration.of(packages.first))


def test_a_flash_that_cannot_be_written_is_said(flash, packages, tmp_path, monkeypatch):
    device = Device(packages.first, packages.trusted, flash=flash)
    device._fabric = Fabric(reconfigured(packages))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(flash_module, "write_atomically", full)
    assert command(device, Command.COMMIT) is Result.FLASH_FAILED
    assert same(flash.load(packages.trusted), Configuration.of(packages.first))


def test_a_first_package_that_fails_its_golden_vectors_is_never_kept(flash, packages):
    wrong = replace(packages.first, golden_scores=packages.first.golden_scores ^ 1)
    with pytest.raises(ImageError, match="fails its own golden vectors"):
        Device(wrong, packages.trusted, flash=flash)
    assert flash.load(packages.trusted) is None


def test_a_board_without_a_flash_commits_and_forgets(packages):
    assert command(Device(packages.first, packages.trusted), Command.COMMIT) is Result.DONE
