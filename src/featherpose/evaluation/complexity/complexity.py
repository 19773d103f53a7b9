"""Complexity of a network: multiply-accumulates and parameters by part, counted on the real graph.

Multiply-accumulates of convolutions and matrix products are counted, as the slides do (their "GFLOPs" are
multiply-accumulates); activations, additions and resizing are not. PyTorch's own counter runs the network on tensors
without memory, so that even the largest is counted quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from featherpose.errors import MissingExtraError, OptionError
from featherpose.evaluation.complexity.published_sizes import PUBLISHED_SIZES
from featherpose.skeleton import COCO_17, OPENPOSE_18, Skeleton

__all__ = ["PUBLISHED", "PUBLISHED_PARAMETERS", "Complexity", "Part", "agrees", "network_complexity"]

_BACKBONE_TABLE = {"conv4_3": 2.5, "conv4_4": 0.6, "initial stage": 2.2, "refinement stage 1": 18.6}

PUBLISHED: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "openpose": {"backbone": 37.8, **_BACKBONE_TABLE, **{f"refinement stage {n}": 18.6 for n in range(2, 6)}},
        "lightweight-openpose": {
            "backbone": 3.7, "conv4_3": 0.25, "conv4_4": 0.31, "initial stage": 1.3, "refinement stage 1": 3.4,
        },
    }
)  # fmt: skip
"""Published giga multiply-accumulates by part, at 368x368 (Osokin 2018; the slides round 0.25 and 0.31 to 0.3)."""

_PUBLISHED_TOTALS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "openpose": {
            "backbone": 37.8, "conv4_3": 40.3, "conv4_4": 40.9, "initial stage": 43.1, "refinement stage 1": 61.7,
            "refinement stage 2": 80.3, "refinement stage 3": 98.9, "refinement stage 4": 117.5,
            "refinement stage 5": 136.1,
        },
        "lightweight-openpose": {
            "backbone": 3.7, "conv4_3": 4.0, "conv4_4": 4.3, "initial stage": 5.6, "refinement stage 1": 9.0,
        },
        "openpose-mobilenet-v1-conv4_1": {"refinement stage 1": 23.3},
        "openpose-mobilenet-v1-conv5_5": {"refinement stage 1": 27.7},
        "openpose-mobilenet-v1-conv5_6": {"refinement stage 1": 31.3},
        "openpose-mobilenet-v2-conv6_3": {"refinement stage 1": 27.2},
    }
)  # fmt: skip

PUBLISHED_PARAMETERS: Mapping[str, float] = MappingProxyType({"lightweight-openpose": 4.1})
"""Published millions of parameters."""


@dataclass(frozen=True, slots=True)
class Part:
    """One row.

    Attributes:
        name: Part of the network.
        macs: Multiply-accumulates for one image.
        parameters: Weights and biases.
        macs_total: Multiply-accumulates up to and including this part.
        published_gmacs: Published value of ``macs`` in 1e9, None where there is none.
        published_total_gmacs: Published value of ``macs_total`` in 1e9, None where there is none.
    """

    name: str
    macs: int
    parameters: int
    macs_total: int
    published_gmacs: float | None = None
    published_total_gmacs: float | None = None


@dataclass(frozen=True, slots=True)
class Complexity:
    """A whole network.

    Attributes:
        network: Its name, or the file.
        size: Input (width, height) in pixels.
        parts: Rows in the order of the data.
        published_parameters: Published millions of parameters, None if unknown.
        published_gmacs: Published 1e9 multiply-accumulates of the whole network, None if unknown.
        note: Why counted and published figures differ, or what is not counted.
    """

    network: str
    size: tuple[int, int]
    parts: tuple[Part, ...]
    published_parameters: float | None = None
    published_gmacs: float | None = None
    note: str = ""

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates of all parts."""
        return sum(part.macs for part in self.parts)

    @property
    def parameters(self) -> int:
        """Return the weights and biases of all parts."""
        return sum(part.parameters for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "macs": self.macs, "parameters": self.parameters}


def agrees(measured: float, published: float) -> bool:
    """Return whether a figure reproduces a published one: within 1.5 % or 0.06, whichever is larger (both in 1e9).

    Example:
        >>> agrees(37.68, 37.8), agrees(0.25, 0.31), agrees(0.25, 0.32)
        (True, True, False)
    """
    return abs(measured - published) <= max(0.015 * published, 0.06) + 1e-9


def network_complexity(
    network: str,
    size: tuple[int, int] | None = None,
    *,
    skeleton: Skeleton | None = None,
    refinements: int | None = None,
) -> Complexity:
    """Count a network of `featherpose.nn.networks`.

    Args:
        network: Its name.
        size: Input (width, height) in pixels, multiples of 8; that of the published figure, or 368x368, unless given.
        skeleton: Keypoints and limbs of the outputs; those of the published figure, or OpenPose's, unless given.
        refinements: Refinement stages; the published number unless given.

    Raises:
        OptionError: If there is no such network or the size does not suit it.
        MissingExtraError: If PyTorch is not installed.

    Example:
        >>> counted = network_complexity("lightweight-openpose")
        >>> f"{counted.macs / 1e9:.2f} G, {counted.parameters / 1e6:.2f} M"
        '8.88 G, 4.09 M'
    """
    try:
        import torch
        from torch.utils.flop_counter import FlopCounterMode
    except ImportError as error:
        raise MissingExtraError("counting a network by name", "train") from error
    from featherpose.nn.networks import COUNTED, create_network

    known = PUBLISHED_SIZES.get(network)
    usual_skeleton = COCO_17 if known else OPENPOSE_18
    skeleton = skeleton or usual_skeleton
    with torch.device("meta"):
        built: Any = (
            COUNTED[network](skeleton)
            if network in COUNTED and refinements is None
            else create_network(network, skeleton, refinements=refinements)
        )
        crop = getattr(built, "crop", None)
        usual_size = known.size if known else (368, 368) if crop is None else (crop.width, crop.height)
        size = size or usual_size
        width, height = size
        # Published inputs of convolutions alone need not be multiples of the stride.
        if size != usual_size and (
            width < 8 or height < 8 or width % built.size_multiple or height % built.size_multiple
        ):
            raise OptionError(
                f"input size {width}x{height}", expected=f"multiples of {built.size_multiple}, at least 8x8"
            )
        images = torch.zeros(1, 3, height, width)
    module = built.eval()
    counter = FlopCounterMode(display=False, depth=99)
    with torch.no_grad(), counter:
        module(images)
    counts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    # Published numbers do not apply to other skeletons or stages.
    comparable = skeleton == usual_skeleton and size == usual_size
    rows, totals = (PUBLISHED.get(network, {}), _PUBLISHED_TOTALS.get(network, {})) if comparable else ({}, {})
    parts, total = [], 0
    leaves = [name for name, layer in module.named_modules() if not any(layer.children())]
    for name, paths in built.parts.items():
        # Only leaves: a list of modules is never called itself, so the counter does not know it.
        inside = [leaf for leaf in leaves for path in paths if f"{leaf}.".startswith(f"{path}.")]
        # The counter reports floating-point operations, two for each multiply-accumulate.
        macs = sum(counts.get(f"{type(built).__name__}.{leaf}", 0) for leaf in inside) // 2
        parameters = sum(p.numel() for path in paths for p in module.get_submodule(path).parameters())
        total += macs
        parts.append(Part(name, macs, parameters, total, rows.get(name), totals.get(name)))
    if known is None or not comparable:
        result = Complexity(network, size, tuple(parts), PUBLISHED_PARAMETERS.get(network))
    else:
        result = Complexity(network, size, tuple(parts), known.parameters, known.gmacs, known.note)
    if 2 * result.macs != counts["Global"]:
        raise AssertionError(f"the parts of {network} do not add up to the network")
    return result
