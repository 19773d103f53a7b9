"""Model cards: what a model is, where it comes from, what it may be used for and how well it was measured.

A card stands in the package (for models that can be downloaded), beside a model file (``<stem>.card.json``) or inside
it (OpenVINO: ``rt_info`` key ``featherpose/card``; ONNX: metadata key ``featherpose.card``).
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from featherpose.codecs.paf.options import DecodeOptions
from featherpose.errors import ModelError, OptionError, SkeletonError
from featherpose.runtime.backend import ModelSpec
from featherpose.skeleton import Skeleton, load_skeleton

__all__ = ["CARD_FORMAT", "CardFile", "Metric", "ModelCard", "read_card"]

CARD_FORMAT: Literal[1] = 1
"""Version of the card's layout; a card of a later version is refused instead of being half understood."""

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
        """Whether what arrives can be held to a published hash."""
        return bool(self.sha256 or self.sha384)


class Metric(_Record):
    """One measured or published figure; an AP without its resolution, precision and pictures says nothing.

    Attributes:
        dataset: What it was measured on, such as ``COCO val2017``.
        pictures: How many pictures, if known.
        height: Network input height in pixels, if known.
        precision: Number format of the network, if known.
        AP: COCO keypoint average precision in 0..1.
        source: Who measured it: ``published`` by the model's authors, or ``measured`` with featherpose.
        note: Anything else that bears on it, such as the decoding rules.
    """

    dataset: str
    AP: Annotated[float, Field(ge=0, le=1)]
    pictures: Annotated[int, Field(gt=0)] | None = None
    height: Annotated[int, Field(gt=0)] | None = None
    precision: str | None = None
    source: Literal["published", "measured"] = "measured"
    note: str = ""


class ModelCard(_Record):
    """What a model is.

    Attributes:
        format: Version of this layout.
        name: Short name, as ``--model`` takes it.
        title: One line for people.
        kind: ``graph`` runs as it is (.xml, .onnx); ``checkpoint`` holds PyTorch weights, to be exported first.
        files: The files; the first is the one that is opened.
        skeleton: Name of a built-in skeleton, or one spelled out as `Skeleton.to_dict` gives it.
        heatmap_stride: Input pixels per heatmap cell.
        paf_stride: Input pixels per part-affinity-field cell.
        size_multiple: Input width and height are multiples of this.
        heatmap_output: Name of the graph's heatmap output.
        paf_output: Name of the graph's part-affinity-field output.
        mean: Subtracted from each channel if the graph does not normalise itself.
        scale: What each channel is then divided by.
        rgb: True if the graph expects RGB instead of BGR.
        pad_value: Grey value of padding.
        decode: Fields of `DecodeOptions` in which the rules that suit this network differ from the default ones.
        architecture: The network, in words.
        precision: Number format of the weights.
        licence: SPDX name of the licence of the weights.
        provenance: Who made it, from what, by which recipe.
        metrics: Measured and published figures.
        limits: What it is known not to do.

    Example:
        >>> card = ModelCard(name="mine", skeleton="coco_17", heatmap_stride=4, paf_stride=8)
        >>> card.spec().heatmap_stride, card.spec().skeleton.num_keypoints
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
    heatmap_stride: Stride = 8
    paf_stride: Stride = 8
    size_multiple: Stride = 8
    heatmap_output: str = "heatmaps"
    paf_output: str = "pafs"
    mean: Triple | None = None
    scale: Triple | None = None
    rgb: bool = False
    pad_value: Annotated[int, Field(ge=0, le=255)] = 128
    decode: dict[str, float | int | bool | None] = Field(default_factory=dict)
    architecture: str = ""
    precision: str = ""
    licence: str = ""
    provenance: str = ""
    metrics: tuple[Metric, ...] = ()
    limits: tuple[str, ...] = ()

    @field_validator("skeleton")
    @classmethod
    def _skeleton_is_known(cls, value: str | dict[str, Any]) -> str | dict[str, Any]:
        _skeleton(value)  # SkeletonError is a ValueError, which pydantic reports with the field's name
        return value

    @field_validator("decode")
    @classmethod
    def _rules_are_known(cls, value: dict[str, float | int | bool | None]) -> dict[str, float | int | bool | None]:
        _rules(value)  # OptionError is a ValueError
        return value

    @model_validator(mode="after")
    def _normalisation_divides(self) -> ModelCard:
        if self.scale is not None and any(value <= 0 for value in self.scale):
            raise ValueError(f"scale {self.scale} must be positive")
        if self.size_multiple % self.heatmap_stride or self.size_multiple % self.paf_stride:
            raise ValueError(f"size_multiple {self.size_multiple} is not a multiple of both strides")
        return self

    def spec(self) -> ModelSpec:
        """The part that the pipeline needs."""
        return ModelSpec(
            name=self.name,
            skeleton=_skeleton(self.skeleton),
            heatmap_stride=self.heatmap_stride,
            paf_stride=self.paf_stride,
            size_multiple=self.size_multiple,
            heatmap_output=self.heatmap_output,
            paf_output=self.paf_output,
            mean=self.mean,
            scale=self.scale,
            rgb=self.rgb,
            pad_value=self.pad_value,
            decode=_rules(self.decode),
        )

    @property
    def size(self) -> int | None:
        """Bytes of all files together, None if one is unknown."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


def _rules(changes: dict[str, float | int | bool | None]) -> DecodeOptions:
    known = {field.name for field in fields(DecodeOptions)}
    if unknown := sorted(set(changes) - known):
        raise OptionError(f"decoding has no rule {unknown[0]!r}", expected=f"one of {', '.join(sorted(known))}")
    return replace(DecodeOptions(), **changes)  # type: ignore[arg-type]


def _skeleton(value: str | dict[str, Any]) -> Skeleton:
    if isinstance(value, str):
        # Only built-in names: a card must mean the same on every machine, so it never points at a file.
        from featherpose.skeleton import builtin_skeletons

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
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = " ".join(first["msg"].removeprefix("Value error, ").split())
        at = f" at {place!r}" if place else ""
        hint = None
        if place == "format":
            hint = "it may come from a later featherpose: pip install --upgrade featherpose"
        raise ModelError(f"the model card {where} is wrong{at}: {message[:200]}", hint=hint) from error
