"""Small fully connected networks that come with the package: read, checked, run, written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from featherpose.errors import CheckpointError
from featherpose.jit import kernel
from featherpose.parsing import ParseError, read_arrays

__all__ = ["Layers", "read_layers", "run_layer", "run_layers", "write_layers"]

Layers = tuple[tuple[np.ndarray, np.ndarray], ...]
"""For each layer float32[outputs, inputs] and float32[outputs]."""


def read_layers(path: Path, *, inputs: int, outputs: int, what: str, count: int | None = None) -> Layers:
    """Read weights and biases.

    Args:
        path: ``.npz`` with ``weight0``, ``bias0``, ``weight1`` ... in the order of the layers.
        inputs: Of the first layer.
        outputs: Of the last layer.
        what: Name of such a network, for messages.
        count: Number of layers, where the code that runs them has a fixed one.

    Raises:
        CheckpointError: If the file is damaged or its layers do not fit together.
    """
    try:
        arrays = read_arrays(path, max_ratio=100)
        found = [(arrays[f"weight{i}"], arrays[f"bias{i}"]) for i in range(len(arrays) // 2)]
    except (ParseError, KeyError) as error:
        raise CheckpointError(f"{path} holds no {what}: {error}") from error
    if any(array.dtype.kind != "f" for layer in found for array in layer):
        raise CheckpointError(f"{path} holds no {what}: its arrays are no floating-point numbers")
    with np.errstate(over="ignore"):
        layers = tuple((weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in found)
    for weight, bias in layers:
        if weight.ndim != 2 or weight.shape[1] != inputs or bias.shape != weight.shape[:1]:
            raise CheckpointError(
                f"{path} holds no {what}: layers of {weight.shape} and {bias.shape}",
                expected=f"a matrix with {inputs} columns, and a number for each of its rows",
            )
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise CheckpointError(f"{path} holds no {what}: it has numbers that are not finite")
        inputs = len(bias)
    if not layers or inputs != outputs:
        raise CheckpointError(f"{path} holds no {what}: it ends with {inputs} numbers", expected=str(outputs))
    if count is not None and len(layers) != count:
        raise CheckpointError(f"{path} holds no {what}: {len(layers)} layers", expected=str(count))
    return layers


def write_layers(path: Path, layers: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write weights and biases as `read_layers` reads them, in the number formats that they have."""
    arrays: dict[str, np.ndarray] = {}
    for number, (weight, bias) in enumerate(layers):
        arrays |= {f"weight{number}": weight, f"bias{number}": bias}
    np.savez_compressed(path, allow_pickle=False, **arrays)


@kernel
def run_layer(weight, bias, x, out, relu):  # type: ignore[no-untyped-def]
    """Compute one layer for one input, in a compiled kernel; ``relu`` says whether a ReLU follows."""
    for row in range(weight.shape[0]):
        total = bias[row]
        for column in range(weight.shape[1]):
            total += weight[row, column] * x[column]
        out[row] = max(total, np.float32(0)) if relu else total


def run_layers(layers: Layers, features: Float32[np.ndarray, "P F"]) -> Float32[np.ndarray, "P O"]:
    """Run a network, with ReLU between its layers.

    Example:
        >>> double = ((np.array([[2.0]], np.float32), np.zeros(1, np.float32)),)
        >>> run_layers(double, np.array([[1], [3]], np.float32)).ravel()
        array([2., 6.], dtype=float32)
    """
    x = features
    for number, (weight, bias) in enumerate(layers):
        # Row by row: a product of matrices may round differently for one person and for many.
        x = np.stack([weight @ row + bias for row in x]) if len(x) else np.empty((0, len(bias)), np.float32)
        if number < len(layers) - 1:
            x = np.maximum(x, 0)
    return x
