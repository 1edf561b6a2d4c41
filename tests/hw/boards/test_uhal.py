"""CERN's own IPbus client against the emulated board: blocks, FIFOs, read-modify-write, a whole reload."""

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from hw.boards.emulated import start_emulated_board
from hw.boards.faults import Faults
from hw.boards.ipbus import IPbusBoard
from hw.emulator import Emulator
from hw.registers import (
    INACTIVE_BANK,
    SCRATCH_WORDS,
    Command,
    Register,
    Result,
    pack_events,
    unpack_answers,
    words_of_hash,
)
from tests.support.hw import random_inputs

ROOT = Path(__file__).parents[3]
CHECK = ROOT / "tests" / "interop" / "uhal_check.py"
EVENTS = 40


@pytest.fixture(scope="module")
def uhal_python():
    """Build the client's environment where it is missing."""
    script = str(ROOT / "deploy" / "uhal-environment.sh")
    environment = {**os.environ, "PYTHON": sys.executable}
    try:
        subprocess.run([script], env=environment, check=True, capture_output=True, text=True, timeout=240)
    except subprocess.TimeoutExpired:
        pytest.skip("uHAL cannot be installed: the package index does not answer")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"uHAL cannot be installed: {error.stderr.strip()[-300:]}")
    return ROOT / ".venv-uhal" / "bin" / "python"


def ordered(uri, packages, *, lossy):
    second = packages.second.model
    return {
        "uri": uri,
        "timeout_ms": 60 if lossy else 5000,
        "bus_error": not lossy,
        "addresses": {
            **{register.name: int(register) for register in Register},
            "INACTIVE_BANK": INACTIVE_BANK,
            "NOWHERE": 0x1000,
        },
        "scratch": np.random.default_rng(1).integers(0, 2**32, SCRATCH_WORDS).tolist(),
        "events": pack_events(random_inputs(EVENTS, 57)).tolist(),
        "event_count": EVENTS,
        "weights": second.memory().view(np.uint32).tolist(),
        "requests": {
            "REQUEST_CRC": [zlib.crc32(second.memory().astype(">i4").tobytes())],
            "REQUEST_STRUCTURE_HASH": words_of_hash(second.structure_hash).tolist(),
            "REQUEST_WEIGHTS_HASH": words_of_hash(second.weights_hash).tolist(),
            "REQUEST_PACKAGE_ID": words_of_hash(packages.second.id).tolist(),
        },
        "switch": int(Command.SWITCH),
    }


@pytest.mark.parametrize(
    ("protocol", "drop"), [("ipbustcp-2.0", 0.0), ("ipbusudp-2.0", 0.0), ("ipbusudp-2.0", 0.05)]
)
def test_cerns_own_client_works_with_the_board(protocol, drop, packages, uhal_python, tmp_path):
    with start_emulated_board(
        packages.first.path, packages.trusted_path, faults=Faults(drop=drop, seed=11)
    ) as running:
        order = ordered(f"{protocol}://{running.address}", packages, lossy=drop > 0)
        (tmp_path / "order.json").write_text(json.dumps(order))
        done = subprocess.run(
            [str(uhal_python), str(CHECK), str(tmp_path / "order.json")],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        board = IPbusBoard(running.address)
        assert board.identify().package_id == packages.second.id
        assert (board.read_back(active=True) == packages.second.model.memory()).all()
        board.close()

    scratch = report["scratch"]
    assert scratch["block"] == order["scratch"]
    assert scratch["bits"][1] == 0x0F0F_0FA5
    assert scratch["sums"] == [0x0F0F_0FA5, 0x0F0F_0FA6, 0x0F0F_0FA5]
    assert scratch["last"] == 0x0F0F_0FA5 + 1000
    assert report["reload"] == {"read_back": order["weights"], "result": Result.DONE}
    inputs = random_inputs(EVENTS, 57)
    for played, package in ((report["events"], packages.first), (report["after"], packages.second)):
        assert played["waiting"] == EVENTS
        scores, accepts = unpack_answers(np.array(played["answers"], dtype=np.uint32))
        assert (scores == Emulator(package.model).scores(inputs)).all()
        assert (accepts == Emulator(package.model).accepts(inputs)).all()
    if drop:
        assert report["timeouts"] > 0
    else:
        assert scratch["bits"][0] == 0x0F0F_0F0F
        assert "bus error on read" in report["bus_error"]
        assert report["timeouts"] == 0
