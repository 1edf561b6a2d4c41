"""What a command loads: at 3 a.m. nobody waits for what it does not need."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "scipy.stats", "nicegui", "dbos", "fastapi", "matplotlib", "uproot", "awkward", "numba"}

COMMAND = """
from daemon.cli.main import main
try:
    main(["{command}", "--help"])
except SystemExit:
    pass
"""


@pytest.mark.parametrize(
    ("code", "needed"),
    [
        (COMMAND.format(command="approve"), set()),
        ("import daemon.references.installation", set()),  # `up` and `worker`
        ("import daemon.references.commissioning", {"uproot", "awkward", "numba"}),  # `train` and `hw build`
        ("import daemon.process.service", {"nicegui", "dbos", "fastapi"}),
    ],
)
def test_nothing_heavy_is_loaded_that_is_not_needed(code, needed):
    ask = f"import sys\n{code}\nprint(*sorted(set(sys.modules) & {HEAVY!r}))"
    ended = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, check=True, timeout=120
    )
    assert set(ended.stdout.splitlines()[-1].split()) <= needed
