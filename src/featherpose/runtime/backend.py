"""Interface between featherpose and an inference engine: what a model is, what a backend does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import UInt8

from featherpose.crops import CropShape
from featherpose.errors import OptionError
from featherpose.geometry import Letterbox
from featherpose.methods.method import Arrays, Decoder, Method, Output
from featherpose.preprocess import prepare, prepare_fixed
from featherpose.skeleton import Skeleton

__all__ = [
    "WARMUP_INFERENCES",
    "Backend",
    "EngineInfo",
    "EngineOptions",
    "ModelSpec",
    "Pending",
    "Precision",
]

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
# Inferences after which a backend has reached its full speed: timing starts there.
WARMUP_INFERENCES = 8
_PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Facts of a model file besides its weights.

    Attributes:
        name: Readable name.
        skeleton: Keypoints and limbs.
        method: How outputs become people.
        outputs: The outputs that the method reads, with channels, strides and their names in the graph.
        size_multiple: Input width and height must be multiples of this.
        mean: Value subtracted from each BGR channel if the file's graph does not normalize itself, else None.
        scale: Value each BGR channel is divided by after that, else None.
        rgb: True if the file's graph expects RGB; the backend then swaps channels inside the graph.
        pad_value: Gray value of the padding around the image.
        side_by_side: Whether several crops are faster with a core each than with all cores together.
        options: Decoding options that suit the network: an instance of ``method.Options``, None for its defaults.
        crop: The crops that the network takes if it sees one person at a time; None if it sees whole images.
        fixed_size: (width, height) of the only input that the graph takes; None if height and width are open.
        squashed: Whether the image fills that input whatever its aspect ratio is, instead of being padded.

    Example:
        >>> from featherpose.methods.paf.method import PAF
        >>> from featherpose.skeleton import COCO_17
        >>> spec = ModelSpec(name="mine", skeleton=COCO_17, method=PAF, outputs=PAF.outputs(COCO_17))
        >>> [output.name for output in spec.outputs]
        ['heatmaps', 'pafs']
    """

    name: str
    skeleton: Skeleton
    method: Method
    outputs: tuple[Output, ...]
    size_multiple: int = 8
    mean: tuple[float, float, float] | None = None
    scale: tuple[float, float, float] | None = None
    rgb: bool = False
    pad_value: int = 128
    side_by_side: bool = True
    options: Any | None = None
    crop: CropShape | None = None
    fixed_size: tuple[int, int] | None = None
    squashed: bool = False

    @property
    def only_size(self) -> tuple[int, int] | None:
        """(width, height) of the only input that the network takes, None for any size.

        It is that of the file, or of crops with the rows under them.
        """
        return self.fixed_size if self.crop is None else (self.crop.width, self.crop.rows)

    def prepare(
        self, image: UInt8[np.ndarray, "H W 3"], *, height: int
    ) -> tuple[UInt8[np.ndarray, "1 h w 3"], Letterbox]:
        """Resize and pad a whole image as this network takes it.

        Args:
            image: BGR.
            height: Network input height in pixels; without effect on networks of one input size.
        """
        if self.crop is not None and self.crop.prior:
            size = self.crop.width, self.crop.height
            seen, letterbox = prepare_fixed(image, size, pad_value=self.pad_value, squashed=self.squashed)
            return np.pad(seen, ((0, 0), (0, self.crop.rows - self.crop.height), (0, 0), (0, 0))), letterbox
        if self.only_size is not None:
            return prepare_fixed(image, self.only_size, pad_value=self.pad_value, squashed=self.squashed)
        return prepare(image, height=height, size_multiple=self.size_multiple, pad_value=self.pad_value)

    def decoder(self, options: Any | None = None) -> Decoder:
        """Make a decoder for this model.

        Args:
            options: Decoding options instead of the model's own.

        Raises:
            OptionError: If they belong to another method.
        """
        return self.method.decoder(self.skeleton, self.outputs, self.options if options is None else options)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Options of running a model.

    Attributes:
        precision: ``auto`` takes the fastest that this processor runs natively and the model file allows; ``int8``
            demands a quantized file; ``bf16`` and ``fp16`` demand that the processor has them. Layers that the file
            quantized run in INT8 whatever is asked; ``fp32``, ``bf16`` and ``fp16`` then speak of the others.
        threads: Inference threads, 0 for all cores.
        device: ``CPU``, or another device that the engine knows, such as ``GPU``.
        num_streams: Inferences that run side by side, each on its share of the threads: more images a second, each
            image later. 0 is for the shortest latency: one at a time on all threads, the next one waiting.
        engine: Name of an engine of `featherpose.runtime.engines`; ``auto`` takes the first installed one that prefers
            files of this suffix: OpenVINO for ``.xml`` and ``.tflite``, ONNX Runtime, if it is there, for ``.onnx``.

    Raises:
        OptionError: If a value is outside its range.
    """

    precision: Precision = "auto"
    threads: int = 0
    device: str = "CPU"
    num_streams: int = 0
    engine: str = "auto"

    def __post_init__(self) -> None:
        if self.engine != "auto":
            from featherpose.runtime.engines import engine_named  # that module imports this one

            engine_named(self.engine)
        if self.precision not in _PRECISIONS:
            raise OptionError(f"precision {self.precision!r} is unknown", expected=f"one of {', '.join(_PRECISIONS)}")
        if self.threads < 0:
            raise OptionError(f"{self.threads} threads", expected="0 (all cores) or a positive number")
        if self.num_streams < 0:
            raise OptionError(f"{self.num_streams} streams", expected="0 (shortest latency) or a positive number")
        if not self.device:
            raise OptionError("the device has no name", expected="CPU, GPU or another device of the engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """Facts of the running engine, as it reports them.

    Attributes:
        engine: Engine name and version, such as ``openvino 2026.4``.
        device: Device name as the engine gives it.
        precision: ``fp32``, ``bf16``, ``fp16`` or ``int8`` (the last: quantized layers in INT8, the rest as stated in
            ``float_precision``).
        float_precision: Precision of layers that are not quantized.
        threads: Inference threads.
        model: Path of the model file, or its name.
    """

    engine: str
    device: str
    precision: str
    float_precision: str
    threads: int
    model: str


class Pending(Protocol):
    """An inference in flight."""

    def result(self) -> list[Arrays]:
        """Wait, then return the named outputs of each image of the batch, valid for as long as the caller holds them.

        Raises:
            ModelError: If the engine failed.
        """
        ...


class Backend(Protocol):
    """One loaded model on one engine. Thread-safe: any thread may submit, any thread may wait."""

    @property
    def spec(self) -> ModelSpec:
        """Return the facts of the model."""
        ...

    @property
    def info(self) -> EngineInfo:
        """Return the facts of the running engine."""
        ...

    def infer(self, images: UInt8[np.ndarray, "B H W 3"]) -> list[Arrays]:
        """Run the network now.

        Args:
            images: uint8[B, H, W, 3], BGR, H and W multiples of ``spec.size_multiple``; any size, any batch.

        Returns:
            The named outputs of each image, valid for as long as the caller holds them.

        Raises:
            ModelError: If the engine failed.
        """
        ...

    def submit(self, images: UInt8[np.ndarray, "B H W 3"]) -> Pending:
        """Start the network and return at once; blocks only while all requests are busy.

        The caller must not change ``images`` before ``result()`` returned.
        """
        ...

    def close(self) -> None:
        """Release the engine's memory; the backend cannot be used afterwards."""
        ...
