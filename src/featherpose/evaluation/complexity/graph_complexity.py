"""Multiply-accumulates and parameters of a model file, from its own layers."""

from __future__ import annotations

from pathlib import Path

from featherpose.evaluation.complexity.complexity import Complexity, Part
from featherpose.zoo.graph_files import read_graph_file

__all__ = ["graph_complexity"]


def graph_complexity(path: Path, size: tuple[int, int] = (368, 368)) -> Complexity:
    """Count the layers of an OpenVINO IR, ONNX or TFLite file, by the stride that they run at.

    Args:
        path: The file.
        size: Input (width, height) in pixels.

    Returns:
        One part for each stride; parameters are weights of convolutions and matrix products, and what is added to
        their results.

    Raises:
        ModelError: If the file is missing or cannot be read.
        OptionError: If the network cannot take this size.
    """
    from featherpose.runtime.openvino.graphs import read_layers

    if path.suffix.lower() != ".tflite":
        read_graph_file(path)  # a damaged file is reported in our words; OpenVINO tries readers that print to stderr
    layers = read_layers(path, size)
    parts, total = [], 0
    # Matrix products have no stride and come last.
    for stride in sorted({layer.stride for layer in layers}, key=lambda s: (s == 0, s)):
        here = [layer for layer in layers if layer.stride == stride]
        macs = sum(layer.macs for layer in here)
        total += macs
        name = f"stride {stride}" if stride else "matrix products"
        parts.append(Part(name, macs, sum(layer.parameters for layer in here), total))
    return Complexity(str(path), size, tuple(parts))
