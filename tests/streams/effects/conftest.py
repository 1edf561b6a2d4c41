"""A contract small enough to work its codes out by hand: missing energy and four jets sorted by pt."""

import numpy as np
import pytest

from streams.contracts.contract import parse_contract
from streams.effects.effect import parse_effect

FOUR_JETS = """
name = "four-jets"
version = 1
tree = "events"

[[objects]]
name = "met"
count = 1
[[objects.quantities]]
name = "pt"
expression = "met"
lsb = 0.5
unit = "GeV"
minimum = 0
maximum = 100
[[objects.quantities]]
name = "phi"
expression = "met_phi"
lsb = 0.04363323129985824
unit = "rad"
minimum = 0
maximum = 143
wrap = 144

[[objects]]
name = "jet"
count = 4
sort_by = "pt"
[[objects.quantities]]
name = "pt"
expression = "pt"
lsb = 0.5
unit = "GeV"
minimum = 0
maximum = 255
[[objects.quantities]]
name = "eta"
expression = "eta"
lsb = 0.1
minimum = -50
maximum = 50
rounding = "nearest"
[[objects.quantities]]
name = "phi"
expression = "phi"
lsb = 0.04363323129985824
unit = "rad"
minimum = 0
maximum = 143
wrap = 144
"""

NONE = (0, 0, 0)


@pytest.fixture(scope="session")
def four_jets():
    return parse_contract(FOUR_JETS)


@pytest.fixture(scope="session")
def unsorted_jets():
    return parse_contract(FOUR_JETS.replace('sort_by = "pt"\n', ""))


@pytest.fixture(scope="session")
def event():
    """Return a maker of a block of one event: ``event(jet, jet, ..., met=(pt, phi))``, in codes."""

    def make(*jets, met=(20, 5)):
        filled = [*jets, *[NONE] * (4 - len(jets))]
        return np.array([[*met, *(code for jet in filled for code in jet)]], dtype=np.int16)

    return make


@pytest.fixture(scope="session")
def after(four_jets):
    """Return what is left of a block after an effect, with fresh random numbers."""

    def apply(text, inputs, contract=four_jets, seed=0):
        return parse_effect(text).apply(inputs, contract, 1, np.random.default_rng(seed))

    return apply
