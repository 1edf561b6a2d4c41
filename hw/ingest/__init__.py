"""Models that were trained elsewhere, as firmware models: torch modules and QONNX graphs."""
