"""Events to measure with: 57 int16 inputs of the example contract. Knows no benchmark."""

from pathlib import Path

import numpy as np

from streams.contracts.contract import load_contract, parse_contract
from streams.events.batch import Batch

CONTRACT = Path(__file__).parents[2] / "deploy" / "site" / "models" / "anomaly" / "contract.toml"
BATCH_EVENTS = 7500
"""A hundredth of a second at 750 kHz, the accept rate of the first trigger level at the HL-LHC."""
THRESHOLD_CODES = 30


def example_contract():
    """The contract of the example site: 57 inputs at full resolution."""
    return load_contract(CONTRACT)


def coarse_contract(n_objects=19, bins=64):
    """A contract of three times `n_objects` inputs of so few codes each."""
    quantities = "".join(
        f'[[objects.quantities]]\nname = "{name}"\nexpression = "Jet_{name}"\nlsb = 1.0\n'
        f"minimum = 0\nmaximum = {bins - 1}\n"
        for name in ("pt", "eta", "phi")
    )
    return parse_contract(
        'name = "coarse"\nversion = 1\ntree = "t"\n[[objects]]\nname = "jet"\n'
        f"count = {n_objects}\n{quantities}"
    )


def even_inputs(contract, n_events, seed=0):
    """Every code of every input as likely as any other: the worst case for a cache."""
    rng = np.random.default_rng(seed)
    columns = [rng.integers(spec.minimum, spec.maximum + 1, n_events) for spec in contract.inputs]
    return np.array(columns, dtype=np.int16).T


def sparse_inputs(contract, n_events, seed=0):
    """Falling pt spectra and two objects of three missing, as in most collisions."""
    rng = np.random.default_rng(seed)
    columns = np.empty((contract.n_inputs, n_events), dtype=np.int16)
    for column, spec in zip(columns, contract.inputs, strict=True):
        middle, width = (spec.minimum + spec.maximum) / 2, (spec.maximum - spec.minimum + 0.1) / 4
        falling = rng.exponential(60 / (1 + spec.index / 2), n_events)
        values = falling if spec.quantity == "pt" else rng.normal(middle, width, n_events)
        column[:] = np.clip(values, spec.minimum, spec.maximum)
    for index, presence in enumerate(contract.presence):
        if presence >= 0 and presence != index:
            columns[index][columns[presence] < THRESHOLD_CODES] = contract.inputs[index].padding
    for index in {int(presence) for presence in contract.presence if presence >= 0}:
        columns[index][columns[index] < THRESHOLD_CODES] = contract.inputs[index].padding
    return columns.T


def make_batch(contract, inputs, sequence=0, lumisection=1, source="bench"):
    """A batch of these events, with a score and one accepted in twenty."""
    score = np.random.default_rng(sequence).gamma(2.0, 5000.0, len(inputs)).astype(np.int32)
    return Batch(
        model="anomaly",
        contract_name=contract.name,
        contract_version=contract.version,
        contract_hash=contract.hash,
        run=1,
        lumisection=lumisection,
        source=source,
        sequence=sequence,
        package="ab" * 32,
        simulated=True,
        inputs=inputs,
        score=score,
        accept=score > np.quantile(score, 0.95),
        input_names=contract.input_names,
    )
