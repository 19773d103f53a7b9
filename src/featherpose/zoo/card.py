"""Model cards: what a model is, where it comes from, its license and its measured accuracy.

A card stands in the package (for models that can be downloaded), beside a model file (``<stem>.card.json``) or inside
it (OpenVINO: ``rt_info`` key ``featherpose/card``; ONNX: metadata key ``featherpose.card``).
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from featherpose.crops import CropShape
from featherpose.errors import ModelError, SkeletonError
from featherpose.methods import Method, method_named
from featherpose.methods.method import Output, change_options
from featherpose.parsing import Limits, ParseError, parse_json
from featherpose.runtime.backend import ModelSpec
from featherpose.skeleton import Skeleton, builtin_skeletons, load_skeleton

__all__ = ["CARD_FORMAT", "CardFile", "CropCard", "Metric", "ModelCard", "OutputCard", "TrainingCard", "read_card"]

CARD_FORMAT: Literal[1] = 1
"""Version of the card's layout; a card of a later version is refused instead of being half understood."""

_LIMITS = Limits(max_bytes=2**20, max_text=20_000)

Stride = Annotated[int, Field(ge=1, le=64)]
Triple = tuple[float, float, float]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CardFile(_Record):
    """One file of a model.

    Attributes:
        name: File name in the model's folder; no path.
        url: Where it is published, if it is.
        size: Bytes, if known.
        sha256: Published SHA-256, if there is one.
        sha384: Published SHA-384, if there is one.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=120)]
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    size: Annotated[int, Field(gt=0)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    sha384: Annotated[str, Field(pattern=r"^[0-9a-f]{96}$")] | None = None

    @property
    def has_hash(self) -> bool:
        """Return whether a published hash exists."""
        return bool(self.sha256 or self.sha384)


class Metric(_Record):
    """One measured or published figure; an AP without its resolution, precision and images says nothing.

    Attributes:
        dataset: What it was measured on, such as ``COCO val2017``.
        images: How many images, if known.
        height: Network input height in pixels, if known.
        precision: Number format of the network, if known.
        AP: COCO keypoint average precision in 0..1.
        source: Who measured it: ``published`` by the model's authors, or ``measured`` with featherpose.
        note: Anything else that bears on it, such as the decoding rules.
    """

    dataset: str
    AP: Annotated[float, Field(ge=0, le=1)]
    images: Annotated[int, Field(gt=0)] | None = None
    height: Annotated[int, Field(gt=0)] | None = None
    precision: str | None = None
    source: Literal["published", "measured"] = "measured"
    note: str = ""


class OutputCard(_Record):
    """One output of a network.

    Attributes:
        stride: Input pixels per cell; the method's own if not given.
        name: Name in the graph; the method's if not given.
        origin_px: Input pixel of the first cell's center; the middle of the pixels that it covers if not given.
    """

    stride: Stride | None = None
    name: str = ""
    origin_px: Annotated[float, Field(ge=-64, le=64)] | None = None


Pixels = Annotated[int, Field(ge=8, le=8192)]


class CropCard(_Record):
    """The crops of a network that sees one person at a time; see `featherpose.crops.CropShape`.

    Attributes:
        width: Pixels.
        height: Pixels.
        margin: What boxes are multiplied by.
        prior: Keypoints of the pose that the input carries under the crop; 0 if it is the crop alone.
        cost: Time of a crop, cropping and decoding included, as a multiple of the time that human-pose-estimation-0001
            in INT8 takes for an image at input height 256.
        reference_ms: Time of a crop in milliseconds on two cores of the machine where ``cost`` was measured.
        rated: Whether `featherpose.rating` scores the people that this network refined well.
        averaged: Whether places of keypoints that both networks found are averaged, see
            `featherpose.topdown.fusion.fuse`.
    """

    width: Annotated[int, Field(ge=8, le=4096)]
    height: Annotated[int, Field(ge=8, le=4096)]
    margin: Annotated[float, Field(ge=0.5, le=4)] = 1.25
    prior: Annotated[int, Field(ge=0, le=1000)] = 0
    cost: Annotated[float, Field(gt=0)] | None = None
    reference_ms: Annotated[float, Field(gt=0)] | None = None
    rated: bool = False
    averaged: bool = False


class TrainingCard(_Record):
    """How long the run that ended in these weights took; runs that it started from are not counted.

    Attributes:
        steps: Batches until the weights were kept.
        minutes: Their wall-clock time, without validation, on whatever else the machine did.
    """

    steps: Annotated[int, Field(ge=0)]
    minutes: Annotated[float, Field(ge=0)]


class ModelCard(_Record):
    """Card of a model.

    Attributes:
        format: Version of this layout.
        name: Short name, as ``--model`` takes it.
        title: Readable name.
        kind: ``graph`` runs as it is (.xml, .onnx); ``checkpoint`` holds PyTorch weights, to be exported first.
        files: The files; the first is the one that is opened.
        skeleton: Name of a built-in skeleton, or one spelled out as `Skeleton.to_dict` gives it.
        method: Name of the pose method: how outputs become people.
        outputs: Stride and graph name of each output of the method, where they differ from the method's own.
        size_multiple: Input width and height are multiples of this.
        mean: Subtracted from each channel if the graph does not normalize itself.
        scale: What each channel is then divided by.
        rgb: True if the graph expects RGB instead of BGR.
        pad_value: Gray value of padding.
        side_by_side: Whether several crops are faster with a core each than with all cores together.
        options: Decoding options of the method in which those that suit this network differ from the default ones.
        crop: Size and cost of the crops if the network sees one person at a time.
        training: Length of the training run, if `featherpose train` wrote the weights.
        fixed_size: (width, height) of the only input that the graph takes; left out where they are open.
        squashed: Whether images fill that input whatever their aspect ratio is.
        architecture: The network, in words.
        precision: Number format of the weights.
        license: SPDX name of the license of the weights.
        provenance: Who made it, from what, by which recipe.
        metrics: Measured and published figures.
        limits: Known limits.

    Example:
        >>> card = ModelCard(name="mine", skeleton="coco_17", outputs={"heatmaps": OutputCard(stride=4)})
        >>> card.spec().outputs[0].stride, card.spec().skeleton.num_keypoints
        (4, 17)
        >>> ModelCard.model_validate_json(card.model_dump_json()) == card
        True
    """

    format: Literal[1] = CARD_FORMAT
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
    title: str = ""
    kind: Literal["graph", "checkpoint"] = "graph"
    files: tuple[CardFile, ...] = ()
    skeleton: str | dict[str, Any]
    method: str = "paf"
    outputs: dict[str, OutputCard] = Field(default_factory=dict)
    size_multiple: Stride = 8
    mean: Triple | None = None
    scale: Triple | None = None
    rgb: bool = False
    pad_value: Annotated[int, Field(ge=0, le=255)] = 128
    side_by_side: bool = True
    options: dict[str, float | int | bool | None] = Field(default_factory=dict)
    crop: CropCard | None = None
    training: TrainingCard | None = None
    fixed_size: tuple[Pixels, Pixels] | None = None
    squashed: bool = False
    architecture: str = ""
    precision: str = ""
    license: str = ""
    provenance: str = ""
    metrics: tuple[Metric, ...] = ()
    limits: tuple[str, ...] = ()

    @field_validator("skeleton")
    @classmethod
    def _skeleton_is_known(cls, value: str | dict[str, Any]) -> str | dict[str, Any]:
        _skeleton(value)  # SkeletonError is a ValueError, which pydantic reports with the field's name
        return value

    @model_validator(mode="after")
    def _parts_fit(self) -> ModelCard:
        if self.scale is not None and any(value <= 0 for value in self.scale):
            raise ValueError(f"scale {self.scale} must be positive")
        # OptionError is a ValueError, which pydantic reports.
        for output in self._outputs():
            if output.stride and self.size_multiple % output.stride:
                raise ValueError(
                    f"size_multiple {self.size_multiple} is not a multiple of the stride {output.stride} "
                    f"of {output.name}"
                )
        _options(method_named(self.method), self.options)
        return self

    def _outputs(self) -> tuple[Output, ...]:
        outputs = method_named(self.method).outputs(
            _skeleton(self.skeleton),
            strides={name: output.stride for name, output in self.outputs.items() if output.stride is not None},
            names={name: output.name for name, output in self.outputs.items() if output.name},
        )
        origins = {name: output.origin_px for name, output in self.outputs.items() if output.origin_px is not None}
        return tuple(replace(output, origin_px=origins.get(output.name)) for output in outputs)

    @classmethod
    def of(cls, spec: ModelSpec, **facts: Any) -> ModelCard:
        """Make the card of a model from its spec.

        Args:
            spec: The model.
            facts: Further fields, such as ``precision`` or ``license``; ``name`` replaces the spec's.
        """
        standard = {output.name: output for output in spec.method.outputs(spec.skeleton)}
        outputs = {
            output.name: OutputCard(
                stride=None if output.stride == standard[output.name].stride else output.stride,
                name="" if output.graph_name == output.name else output.graph_name,
                origin_px=output.origin_px,
            )
            for output in spec.outputs
        }
        known = builtin_skeletons().get(spec.skeleton.name) == spec.skeleton
        default = spec.method.Options()
        options = default if spec.options is None else spec.options
        return cls(
            **{
                "name": spec.name,
                "skeleton": spec.skeleton.name if known else spec.skeleton.to_dict(),
                "method": spec.method.name,
                "outputs": {name: output for name, output in outputs.items() if output != OutputCard()},
                "size_multiple": spec.size_multiple,
                "mean": spec.mean,
                "scale": spec.scale,
                "rgb": spec.rgb,
                "pad_value": spec.pad_value,
                "side_by_side": spec.side_by_side,
                "fixed_size": spec.fixed_size,
                "squashed": spec.squashed,
                "crop": None if spec.crop is None else CropCard(**asdict(spec.crop)),
                "options": {
                    field.name: getattr(options, field.name)
                    for field in fields(options)
                    if getattr(options, field.name) != getattr(default, field.name)
                },
                **facts,
            }
        )

    def spec(self) -> ModelSpec:
        """Return the part that the pipeline needs."""
        return ModelSpec(
            name=self.name,
            skeleton=_skeleton(self.skeleton),
            method=method_named(self.method),
            outputs=self._outputs(),
            size_multiple=self.size_multiple,
            mean=self.mean,
            scale=self.scale,
            rgb=self.rgb,
            pad_value=self.pad_value,
            side_by_side=self.side_by_side,
            options=_options(method_named(self.method), self.options) if self.options else None,
            crop=None
            if self.crop is None
            else CropShape(
                width=self.crop.width, height=self.crop.height, margin=self.crop.margin, prior=self.crop.prior
            ),
            fixed_size=self.fixed_size,
            squashed=self.squashed,
        )

    @property
    def size(self) -> int | None:
        """Return the bytes of all files together, None if one is unknown."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


def _options(method: Method, changes: dict[str, float | int | bool | None]) -> Any:
    default = method.Options()
    unset = {name: value for name, value in changes.items() if value is None}
    changed = change_options(default, {name: value for name, value in changes.items() if value is not None})
    for name in unset:
        change_options(default, {name: 0})
    return replace(changed, **unset) if unset else changed


def _skeleton(value: str | dict[str, Any]) -> Skeleton:
    if isinstance(value, str):
        # Only built-in names: a card must mean the same on every machine, so it never points at a file.
        if value not in builtin_skeletons():
            raise SkeletonError(
                f"skeleton {value!r} is unknown", expected=f"{', '.join(builtin_skeletons())}, or one spelled out"
            )
        return load_skeleton(value)
    return Skeleton.from_dict(value)


def read_card(text: str | bytes, where: str | Path) -> ModelCard:
    """Parse and check a card.

    Args:
        text: JSON.
        where: What messages call it.

    Raises:
        ModelError: If it is no JSON, lacks a key, has one too many, or contradicts itself.

    Example:
        >>> read_card('{"name": "mine", "skeleton": "coco_18"}', "mine.card.json")
        Traceback (most recent call last):
        featherpose.errors.ModelError: the model card mine.card.json is wrong at 'skeleton': skeleton 'coco_18' is ...
    """
    try:
        # Cards with all their metrics have some 20 KB; what is deeper or larger is not one.
        data = parse_json(text, _LIMITS)
        # pydantic parses the text again, so that lists become tuples and strings stay strings.
        return ModelCard.model_validate_json(json.dumps(data))
    except ParseError as error:
        raise ModelError(f"the model card {where} {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:80]
        message = " ".join(first["msg"].removeprefix("Value error, ").split())
        at = f" at {place!r}" if place else ""
        hint = None
        if place == "format":
            hint = "it may come from a later featherpose: pip install --upgrade featherpose"
        raise ModelError(f"the model card {where} is wrong{at}: {message[:200]}", hint=hint) from error
