"""A fake retraining job: it changes one word of the weights, in no time.

Usage, as of `retrain.job`: python -m tests.support.fast_retrain SPEC.json RESULT.json
"""

import hashlib
import json
import sys
from pathlib import Path

from hw.archive import write_atomically
from hw.network import FirmwareModel
from streams.events.dataset import Dataset

_EVALUATION = {
    "events": 1000, "reference_events": 1000, "accept_rate": 0.1, "accept_rate_error": 0.01,
    "reference_rate": 0.1, "reference_rate_error": 0.01, "rate_deviation": 0.0, "rate_deviation_error": 0.01,
    "score_distance": 0.0, "score_p_value": 1.0, "order": 1.0, "passed": True, "reasons": [],
}  # fmt: skip


def main(spec_file: str, result_file: str) -> None:
    """Write a candidate and its result; the same job gives the same candidate."""
    spec = json.loads(Path(spec_file).read_text())
    sys.stdout.write(json.dumps({"progress": 0.5, "message": "half way"}) + "\n")
    sys.stdout.flush()
    parent = FirmwareModel.from_npz_bytes(Path(spec["firmware"]).read_bytes())
    words = parent.memory().copy()
    words[0] += 1
    model = parent.with_memory(words)
    content = model.to_npz_bytes()
    write_atomically(Path(spec["output"]), content)
    result = {
        "task": "retrain",
        "status": "candidate",
        "reason": "a word was changed",
        "chosen": "bias",
        "model_name": model.name,
        "contract_hash": model.contract_hash,
        "training_id": hashlib.sha256(content).hexdigest(),
        "model": {
            "path": spec["output"],
            "sha256": hashlib.sha256(content).hexdigest(),
            "structure_hash": model.structure_hash,
            "weights_hash": model.weights_hash,
        },
        "parent_weights_hash": parent.weights_hash,
        "parent_package": spec["parent_package"],
        "dataset_ids": [Dataset.load(Path(file)).id for file in [*spec["reference"], *spec["recent"]]],
        "baseline": _EVALUATION,
        "strategies": [],
        "seconds": 0.0,
    }
    write_atomically(Path(result_file), json.dumps(result).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
