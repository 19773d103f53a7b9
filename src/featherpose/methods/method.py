"""Interface of pose methods, and all that the rest of the package knows of them.

A method turns the named outputs of a network into people, and people into training targets. Engines, estimator, tiles,
training, export and evaluation work through `Method` and `Output` and name no method.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from featherpose.crops import CropShape
from featherpose.errors import OptionError
from featherpose.geometry import Letterbox
from featherpose.poses import Candidates, Poses
from featherpose.skeleton import Skeleton

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Arrays",
    "BoxEncoder",
    "CandidateDecoder",
    "Decoder",
    "GraphShapes",
    "Method",
    "Output",
    "Recognized",
    "Target",
    "change_options",
    "find_candidates",
    "keep_everyone",
    "preset_of",
]

Arrays = Mapping[str, Float32[np.ndarray, "C h w"]]
"""Outputs of a network for one image, or targets of one view: an array for each `Output`, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One output of a network.

    Attributes:
        name: The method's name of it, such as ``heatmaps``.
        channels: C of its float32[C, h, w].
        stride: Network input pixels per cell; 0 for an output that is no map.
        graph_name: Its name in the model file.
        more_channels: Whether further channels may follow those that the method reads, such as a background.
        mirror: Channel c of a mirrored image's output is channel ``mirror[c]`` of the image's own; None where the
            skeleton allows no mirroring.
        vectors: Pairs of channels that are the x and y of a vector in -1..1: they turn with the image. The other
            channels are in 0..1.
        labels: Meaning of each of the method's channels, such as a keypoint's name. Channels with equal labels have the
            same meaning in every skeleton.
        origin_px: Network input pixel, along both axes, that the center of the first cell stands for; ``(stride - 1) /
            2``, the center of the pixels that it covers, unless the network was trained for another.
        chosen: Whether rows and values were chosen as the highest of many, so that rounding may choose others.
    """

    name: str
    channels: int
    stride: int
    graph_name: str = ""
    more_channels: bool = False
    mirror: tuple[int, ...] | None = None
    vectors: tuple[tuple[int, int], ...] = ()
    labels: tuple[str, ...] = ()
    origin_px: float | None = None
    chosen: bool = False

    def __post_init__(self) -> None:
        if not self.graph_name:
            object.__setattr__(self, "graph_name", self.name)

    @property
    def first_cell_px(self) -> float:
        """Network input pixel of the center of the first cell."""
        return (self.stride - 1) / 2 if self.origin_px is None else self.origin_px


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Training targets of one view.

    Attributes:
        values: For each output float32[C, h, w].
        masks: For each output float32[h, w]: 1 where the target is known, 0 where it is not.
    """

    values: Arrays
    masks: Mapping[str, Float32[np.ndarray, "h w"]]


@dataclass(frozen=True, slots=True)
class GraphShapes:
    """Shapes of a model file's inputs and outputs, None for an axis that is open.

    Attributes:
        inputs: In the order of the graph.
        outputs: By name.

    Example:
        >>> GraphShapes(((1, 3, 640, 480),), {}).fixed_size
        (480, 640)
    """

    inputs: tuple[tuple[int | None, ...], ...]
    outputs: Mapping[str, tuple[int | None, ...]]

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """(width, height) of the images that the graph is bound to; None where they are open."""
        if len(self.inputs) != 1 or len(self.inputs[0]) != 4:
            return None
        shape = self.inputs[0]
        height, width = shape[2:] if shape[1] in (None, 3) else shape[1:3]
        return None if width is None or height is None else (width, height)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognized:
    """A published graph that a method recognizes by its outputs.

    Attributes:
        skeleton: Keypoints and limbs of its channels.
        outputs: Its outputs.
        size_multiple: Input width and height are multiples of this.
        rgb: Whether it expects RGB.
        mean: Subtracted from each channel, if it does not normalize itself.
        scale: What each channel is then divided by.
        pad_value: Gray value of padding.
        fixed_size: (width, height) of the images that the graph is bound to; None where any size will do.
        crop: The crops that it takes if it sees one person at a time.
        squashed: Whether images fill the fixed size whatever their aspect ratio is.
        options: Decoding options that suit such networks, None for the recommended ones.
    """

    skeleton: Skeleton
    outputs: tuple[Output, ...]
    size_multiple: int = 8
    rgb: bool = False
    mean: tuple[float, float, float] | None = None
    scale: tuple[float, float, float] | None = None
    pad_value: int = 128
    fixed_size: tuple[int, int] | None = None
    crop: CropShape | None = None
    squashed: bool = False
    options: Any = None


class Decoder(Protocol):
    """Decoder from a network's outputs to people. Stateless: any number of threads may call it."""

    @property
    def options(self) -> Any:
        """Return the options: an instance of the method's ``Options``."""
        ...

    def __call__(self, outputs: Arrays, letterbox: Letterbox) -> Poses:
        """Find everyone in one image, best first, in pixels of the source image."""
        ...

    def warm_up(self) -> None:
        """Load or compile the kernels before the first image."""
        ...


@runtime_checkable
class CandidateDecoder(Protocol):
    """A decoder that can also tell places that belong to nobody."""

    def candidates(self, outputs: Arrays, letterbox: Letterbox, min_score: float) -> Candidates:
        """Find every local maximum over a score, in pixels of the source image."""
        ...


@runtime_checkable
class BoxEncoder(Protocol):
    """A method whose targets need the boxes of people beside their keypoints."""

    def encode_in_boxes(
        self,
        people: Float32[np.ndarray, "P K 2"],
        boxes: Float32[np.ndarray, "P 4"],
        ignore: Float32[np.ndarray, "n 4"],
        skeleton: Skeleton,
        size: tuple[int, int],
        outputs: Sequence[Output],
        targets: Any,
    ) -> Target:
        """Turn people and their boxes into training targets.

        Args:
            people: Keypoints in view pixels, NaN where unknown; all NaN for somebody of whom only the box is known.
            boxes: (left, top, right, bottom) of each of them, view pixels with the center of the first one at 0; may
                reach out of the view.
            ignore: Boxes in which nothing is known, except inside of ``boxes``.
            skeleton: Keypoints and limbs.
            size: (width, height) of the view in pixels.
            outputs: What the network gives.
            targets: An instance of ``Targets``.
        """
        ...


class Method(Protocol):
    """A pose method. An instance is a stateless value; `featherpose.methods.METHODS` lists all of them."""

    @property
    def name(self) -> str:
        """Return the short name, as model cards and configurations write it."""
        ...

    @property
    def title(self) -> str:
        """Return a readable title, with the source."""
        ...

    @property
    def Options(self) -> type[Any]:  # noqa: N802 - a class
        """Return the frozen dataclass of decoding options; its defaults are the recommended ones.

        Where fields depend on each other it has a method ``changed(**fields)``.
        """
        ...

    @property
    def Targets(self) -> type[Any]:  # noqa: N802 - a class
        """Return the frozen dataclass of the form of training targets, the ``[data.targets]`` of a configuration."""
        ...

    @property
    def kernel_modules(self) -> tuple[str, ...]:
        """Return the modules with the compiled kernels of decoding, for `featherpose.jit.kernels_are_cached`."""
        ...

    @property
    def presets(self) -> Mapping[str, Any]:
        """Return named sets of decoding options; ``default`` always exists, ``paper`` where a paper states its own."""
        ...

    @property
    def search_space(self) -> Mapping[str, Sequence[Any]]:
        """Return the values that ``featherpose tune-decoder`` tries for each decoding option."""
        ...

    def outputs(
        self, skeleton: Skeleton, *, strides: Mapping[str, int] | None = None, names: Mapping[str, str] | None = None
    ) -> tuple[Output, ...]:
        """State the outputs of a network for a skeleton.

        Args:
            skeleton: Keypoints and limbs.
            strides: Strides by output name where they differ from the published ones.
            names: Graph names by output name where they differ.

        Raises:
            OptionError: If there is no such output.
        """
        ...

    def recognize(self, outputs: Collection[str], shapes: GraphShapes | None = None) -> Recognized | None:
        """Recognize a published graph; None if it is none of this method's.

        Args:
            outputs: Names of its outputs, for an IR also those of inner tensors.
            shapes: Shapes of its inputs and outputs, where the file states them.
        """
        ...

    def decoder(self, skeleton: Skeleton, outputs: Sequence[Output], options: Any | None = None) -> Decoder:
        """Make a decoder.

        Args:
            skeleton: What the channels mean.
            outputs: The network's outputs, with their strides.
            options: An instance of ``Options``; the recommended ones unless given.

        Raises:
            OptionError: If the options belong to another method.
        """
        ...

    def encode(
        self,
        people: Float32[np.ndarray, "P K 2"],
        ignore: Float32[np.ndarray, "n 4"],
        skeleton: Skeleton,
        size: tuple[int, int],
        outputs: Sequence[Output],
        targets: Any,
    ) -> Target:
        """Turn people into training targets.

        Args:
            people: Keypoints in view pixels, NaN where unknown; the person that the view was drawn for is first.
            ignore: Boxes (left, top, right, bottom) of people without keypoints, view pixels.
            skeleton: Keypoints and limbs.
            size: (width, height) of the view in pixels.
            outputs: What the network gives.
            targets: An instance of ``Targets``.
        """
        ...

    def merge(
        self,
        teacher: Arrays,
        people: Float32[np.ndarray, "P K 2"],
        skeleton: Skeleton,
        size: tuple[int, int],
        outputs: Sequence[Output],
        targets: Any,
        *,
        scale: float,
    ) -> Target:
        """Combine a teacher's outputs with the labels of the same view.

        Args:
            teacher: Outputs of the teacher seen through the view, with exactly ``channels`` channels each.
            people: Labels in view pixels.
            skeleton: Keypoints and limbs.
            size: (width, height) of the view in pixels.
            outputs: What the network gives.
            targets: An instance of ``Targets``.
            scale: View pixels per pixel that the teacher saw.
        """
        ...

    def loss(
        self,
        stages: Sequence[Mapping[str, Tensor]],
        values: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        config: Any,
        skeleton: Skeleton,
        *,
        probabilities: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare a network's outputs with the targets of a batch.

        Args:
            stages: For each stage float[B, C, h, w] by output name.
            values: Targets, float[B, C, h, w] by output name.
            masks: float[B, 1, h, w] by output name.
            config: The ``[loss]`` table of the configuration.
            skeleton: Keypoints and limbs.
            probabilities: Whether heatmaps are probabilities, strictly between 0 and 1.

        Returns:
            The loss, and its parts by name without gradient.
        """
        ...


def find_candidates(decoder: Decoder, outputs: Arrays, letterbox: Letterbox, min_score: float) -> Candidates:
    """Find every place that looks like a keypoint.

    Raises:
        OptionError: If the decoder's method knows no keypoints that belong to nobody.
    """
    if not isinstance(decoder, CandidateDecoder):
        raise OptionError(
            f"{type(decoder).__name__} cannot tell keypoints that belong to nobody",
            expected="a model of method paf",
        )
    return decoder.candidates(outputs, letterbox, min_score)


def keep_everyone(options: Any) -> Any:
    """Return options under which nobody is dropped for a low rating: refinement may still find their pose.

    Args:
        options: Decoding options of any method; only those with a ``min_rating`` change.

    Example:
        >>> from featherpose.methods.paf.decode_options import PafOptions
        >>> keep_everyone(PafOptions()).min_rating
        0.0
    """
    return replace(options, min_rating=0.0) if hasattr(options, "min_rating") else options


def preset_of(method: Method, name: str) -> Any:
    """Look a preset of decoding options up.

    Raises:
        OptionError: If the method has none of that name.

    Example:
        >>> from featherpose.methods.paf.method import PAF
        >>> preset_of(PAF, "paper").peak_threshold
        0.1
    """
    if name not in method.presets:
        raise OptionError(
            f"method {method.name} has no preset {name!r}", expected=f"one of {', '.join(method.presets)}"
        )
    return method.presets[name]


def change_options(options: Any, changes: Mapping[str, Any]) -> Any:
    """Return decoding options with some fields changed; None stands for a field to leave as it is.

    Raises:
        OptionError: If the method has no such option, or a value is outside its range.

    Example:
        >>> from featherpose.methods.paf.decode_options import PafOptions
        >>> change_options(PafOptions(), {"peak_threshold": 0.2}).peak_threshold
        0.2
    """
    wanted = {name: value for name, value in changes.items() if value is not None}
    known = [field.name for field in fields(options)]
    for name in wanted:
        if name not in known:
            raise OptionError(
                f"{type(options).__name__} has no option {name!r}", expected=f"one of {', '.join(sorted(known))}"
            )
    if not wanted:
        return options
    # Options whose fields depend on each other define `changed` themselves.
    changed = getattr(options, "changed", None)
    return replace(options, **wanted) if changed is None else changed(**wanted)
