"""What methods share that declare their outputs once: strides and names that differ, and options of the right kind."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Float32

from featherpose.errors import ConfigError, ModelError, OptionError
from featherpose.geometry import Letterbox
from featherpose.methods.method import Arrays, GraphShapes, Output, Recognized, Target
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "DeclaredDecoder",
    "DeclaredMethod",
    "check_arrays",
    "keypoint_output",
    "map_shape",
    "vector_output",
]

IMAGENET_MEAN, IMAGENET_STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
"""ImageNet's mean and standard deviation in BGR order, 0..255, which published networks of crops are trained with."""

Rules = TypeVar("Rules")


class DeclaredDecoder(Generic[Rules]):
    """A base class for decoders. Stateless: any number of threads may call it.

    Args:
        skeleton: Keypoints of the outputs.
        outputs: Outputs of the network.
        options: Rules of decoding.
    """

    def __init__(self, skeleton: Skeleton, outputs: Sequence[Output], options: Rules) -> None:
        self._skeleton, self._outputs, self._options = skeleton, tuple(outputs), options

    @property
    def options(self) -> Rules:
        """Return the rules."""
        return self._options

    def __call__(self, outputs: Arrays, letterbox: Letterbox) -> Poses:
        """Find everyone in one image, best first, in pixels of the source image."""
        raise NotImplementedError

    def warm_up(self) -> None:
        """Do nothing: nothing is compiled."""


class DeclaredMethod:
    """A base class for methods: a subclass says in `declare` what its outputs are.

    Attributes:
        name: Short name.
        Options: Decoding options.
        Decoder: Turns the outputs into people.
        kernel_modules: Modules with compiled kernels.
        presets: Named decoding options.
        search_space: Values for ``tune-decoder``.
    """

    name: str
    title: str
    Options: type[Any]
    Targets: type[Any]
    Decoder: type[DeclaredDecoder[Any]]
    kernel_modules: tuple[str, ...] = ()
    search_space: Mapping[str, Sequence[Any]] = {}

    @property
    def presets(self) -> Mapping[str, Any]:
        """The recommended options alone."""
        return {"default": self.Options()}

    def declare(self, skeleton: Skeleton) -> tuple[Output, ...]:
        """State the outputs with their usual strides."""
        raise NotImplementedError

    def outputs(
        self, skeleton: Skeleton, *, strides: Mapping[str, int] | None = None, names: Mapping[str, str] | None = None
    ) -> tuple[Output, ...]:
        """State the outputs of a network for a skeleton.

        Args:
            skeleton: Keypoints and limbs.
            strides: Strides by output name where they differ.
            names: Graph names by output name where they differ.

        Raises:
            OptionError: If there is no such output.
        """
        declared = self.declare(skeleton)
        own = [output.name for output in declared]
        for given in (*(strides or {}), *(names or {})):
            if given not in own:
                raise OptionError(f"method {self.name} has no output {given!r}", expected=" or ".join(own))
        return tuple(
            replace(
                output, stride=(strides or {}).get(output.name, output.stride),
                graph_name=(names or {}).get(output.name, output.graph_name),
            )
            for output in declared
        )  # fmt: skip

    def recognize(self, outputs: Collection[str], shapes: GraphShapes | None = None) -> Recognized | None:
        """Recognize nothing: no published graph is known by its output names."""
        return None

    def decoder(
        self, skeleton: Skeleton, outputs: Sequence[Output], options: Any | None = None
    ) -> DeclaredDecoder[Any]:
        """Make a decoder.

        Raises:
            OptionError: If options or outputs belong to another method.
        """
        self.by_name(outputs)
        return self.Decoder(skeleton, outputs, self.check_options(options))

    def check_options(self, options: Any | None) -> Any:
        """Return the options, the recommended ones for None.

        Raises:
            OptionError: If they belong to another method.
        """
        if options is None:
            return self.Options()
        if not isinstance(options, self.Options):
            raise OptionError(f"decoding options of type {type(options).__name__}", expected=self.Options.__name__)
        return options

    def by_name(self, outputs: Sequence[Output]) -> dict[str, Output]:
        """Return a network's outputs by name.

        Raises:
            OptionError: If they are those of another method.
        """
        own = [output.name for output in self.declare(_ONE_POINT)]
        if [output.name for output in outputs] != own:
            raise OptionError(
                f"outputs {', '.join(o.name for o in outputs)}", expected=f"{', '.join(own)}, for method {self.name}"
            )
        return {output.name: output for output in outputs}

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
        """Refuse: this method's outputs cannot be combined with labels.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(f"[teacher] for method {self.name}", expected="a method whose outputs are heatmaps or fields")


_ONE_POINT = Skeleton.create("point", ["point"], [])


def keypoint_output(name: str, skeleton: Skeleton, stride: int) -> Output:
    """State an output of one channel a keypoint.

    Example:
        >>> keypoint_output("heatmaps", _ONE_POINT, 4).labels
        ('point',)
    """
    return Output(
        name=name, channels=skeleton.num_keypoints, stride=stride, mirror=tuple(skeleton.flip_order),
        labels=tuple(skeleton.keypoints),
    )  # fmt: skip


def vector_output(name: str, skeleton: Skeleton, stride: int) -> Output:
    """State an output of two channels a keypoint, x and y.

    Example:
        >>> vector_output("offsets", _ONE_POINT, 4).labels
        ('point x', 'point y')
    """
    k = skeleton.num_keypoints
    return Output(
        name=name, channels=2 * k, stride=stride,
        mirror=tuple(2 * i + axis for i in skeleton.flip_order for axis in (0, 1)),
        vectors=tuple((2 * i, 2 * i + 1) for i in range(k)),
        labels=tuple(f"{keypoint} {axis}" for keypoint in skeleton.keypoints for axis in "xy"),
    )  # fmt: skip


def check_arrays(arrays: Arrays, outputs: Sequence[Output], skeleton: Skeleton) -> None:
    """Hold a network's answer to what the method reads.

    Raises:
        ModelError: If an output has other axes or fewer channels.
    """
    for output in outputs:
        found = arrays[output.name]
        if found.ndim != 3 or found.shape[0] < output.channels:
            raise ModelError(
                f"{output.name} of shape {found.shape}",
                expected=f"at least {output.channels} channels for skeleton {skeleton.name!r}",
                hint="give the skeleton that the model was trained with",
            )


def map_shape(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Return (h, w) of a map over an input of (width, height) pixels.

    Example:
        >>> map_shape((192, 256), 4)
        (64, 48)
    """
    return -(-size[1] // stride), -(-size[0] // stride)
