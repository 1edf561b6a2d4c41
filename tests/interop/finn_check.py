"""Runs in FINN's environment: executes a project's graph, and FINN's own form of it, on given values.

usage: python finn_check.py PROJECT VALUES.npy RESULTS.npz
"""

import sys
from pathlib import Path

import numpy as np
from qonnx.core import onnx_exec
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.infer_shapes import InferShapes


def execute(model_path: Path, values: np.ndarray) -> np.ndarray:
    """Give what a graph makes of whole numbers, one event after another."""
    model = ModelWrapper(str(model_path)).transform(InferShapes())
    source, target = model.graph.input[0].name, model.graph.output[0].name
    events = values.astype(np.float32)[:, None, :]
    results = [onnx_exec.execute_onnx(model, {source: event})[target][0] for event in events]
    return np.array(results)


def main(folder: Path, values_path: str, results_path: str) -> None:
    """Execute what is there."""
    import finn.xsi  # noqa: PLC0415

    finn.xsi.SimEngine = type("SimEngine", (), {})
    values = np.load(values_path)
    graphs = {"exported": folder / "model.onnx"}
    for step in ("step_streamline", "step_convert_to_hw"):
        path = folder / "build" / "intermediate_models" / f"{step}.onnx"
        if path.exists():
            graphs[step] = path
    np.savez(results_path, **{name: execute(path, values) for name, path in graphs.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
