"""Runs in the environment of the peers: asks each tool for its own decision about each lumisection.

Standard input: the names of the inputs as one line of JSON, then blocks: a line with the number of events,
and int16 codes in the machine's byte order, event by event. The first block is the reference sample, each
further one a lumisection. Standard output: a line of JSON for each lumisection, tool -> ``[drift, seconds]``.
All settings are the tools' defaults.
"""

import json
import logging
import sys
import time
import warnings
from typing import Any, BinaryIO

import numpy as np

Block = np.ndarray[Any, Any]


class Alibi:
    """alibi-detect's KSDrift: p < 0.05 with Bonferroni's correction on all inputs."""

    def __init__(self, reference: Block, _names: list[str]) -> None:
        from alibi_detect.cd import KSDrift  # noqa: PLC0415 - only this environment has it

        self.detector = KSDrift(reference, p_val=0.05)

    def decide(self, block: Block) -> bool:
        return bool(self.detector.predict(block)["data"]["is_drift"])


class Evidently:
    """What evidently's DataDriftPreset decides: drift where half of the columns have drifted.

    The preset would also draw every column, which takes four fifths of its time.
    """

    def __init__(self, reference: Block, names: list[str]) -> None:
        from evidently import DataDefinition, Report  # noqa: PLC0415 - only this environment has it
        from evidently.metrics import DriftedColumnsCount  # noqa: PLC0415

        self.definition = DataDefinition(numerical_columns=names)
        self.names = names
        self.report = Report([DriftedColumnsCount()])
        self.reference = self.dataset(reference)

    def dataset(self, block: Block) -> Any:
        import pandas as pd  # noqa: PLC0415
        from evidently import Dataset  # noqa: PLC0415

        return Dataset.from_pandas(pd.DataFrame(block, columns=self.names), data_definition=self.definition)

    def decide(self, block: Block) -> bool:
        (drifted,) = self.report.run(self.dataset(block), self.reference).dict()["metrics"]
        return bool(drifted["value"]["share"] >= drifted["config"]["drift_share"])


TOOLS = {"alibi-detect KSDrift": Alibi, "evidently drifted columns": Evidently}


def read_block(stream: BinaryIO, n_inputs: int) -> Block | None:
    """Return the next block, int16 of shape (events, inputs); None at the end."""
    line = stream.readline()
    if not line:
        return None
    n_events = int(line)
    codes = np.frombuffer(stream.read(2 * n_events * n_inputs), dtype=np.int16)
    return codes.reshape(n_events, n_inputs)


def main() -> None:
    """Answer until the input ends."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    stream = sys.stdin.buffer
    names = json.loads(stream.readline())
    reference = read_block(stream, len(names))
    tools = {name: make(reference, names) for name, make in TOOLS.items()}
    while (block := read_block(stream, len(names))) is not None:
        answers = {}
        for name, tool in tools.items():
            begun = time.perf_counter()
            drift = tool.decide(block)
            answers[name] = [drift, time.perf_counter() - begun]
        sys.stdout.write(json.dumps(answers) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
