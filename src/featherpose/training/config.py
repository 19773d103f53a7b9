"""What a training run is: a TOML file read into frozen dataclasses, every key known and every value judged."""

from __future__ import annotations

import dataclasses
import re
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from featherpose.data.augment import AugmentOptions
from featherpose.data.coco import PictureSource
from featherpose.data.dataset import TargetOptions
from featherpose.errors import ConfigError
from featherpose.nn.networks import NetworkName
from featherpose.skeleton import Skeleton, load_skeleton

__all__ = [
    "DataConfig",
    "HintsConfig",
    "LossConfig",
    "NetworkConfig",
    "OptimiserConfig",
    "RoundingConfig",
    "RunConfig",
    "TeacherConfig",
    "TrainConfig",
    "config_from_dict",
    "load_config",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Which network is trained and from what it starts.

    Attributes:
        kind: A name of `featherpose.nn.networks.NETWORK_NAMES`: ``lightweight-openpose``, ``feather``, ``openpose``, …
        start: Weights to begin with: a checkpoint or ``.safetensors`` of the same kind, for feather also the public
            MoveNet ``.tflite`` or ``bundled`` for the weights in the package; empty for random weights. Keypoints
            and limbs that the start knows by name are taken over.
        refinements: Refinement stages; the published number unless given (all but feather).
        channels: Width of the PAF head (feather).
        blocks: Blocks of the PAF head at stride 8 (feather).
        freeze: Beginnings of parameter names that are not trained, such as ``front``.
        frozen_in_engine: Compute what is frozen in OpenVINO, if it is all that feeds the trained rest.
    """

    kind: NetworkName = "lightweight-openpose"
    start: str = ""
    refinements: int | None = None
    channels: int = 128
    blocks: int = 4
    freeze: tuple[str, ...] = ()
    frozen_in_engine: bool = False

    def __post_init__(self) -> None:
        if self.channels < 8 or self.blocks < 0:
            raise ConfigError(
                f"[network] channels {self.channels}, blocks {self.blocks}", expected="at least 8, not negative"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Where pictures come from and how they vary.

    Attributes:
        sources: Folders and annotation files; relative paths are relative to the configuration file.
        skeleton: Name of a built-in skeleton or a skeleton file.
        validation: A folder with its own annotations; the held-out pictures of ``sources`` if none is given.
        augment: Ranges of the views.
        targets: Form of the maps.
        compose: Chance that a sample is put together from four views.
        workers: Processes that load; 0 loads in threads of the training process.
    """

    sources: tuple[PictureSource, ...]
    skeleton: str = "openpose_18"
    validation: PictureSource | None = None
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    targets: TargetOptions = field(default_factory=TargetOptions)
    compose: float = 0.0
    workers: int = 0

    def __post_init__(self) -> None:
        if not self.sources:
            raise ConfigError("[data] has no sources", expected="at least one [[data.sources]]")
        if not 0 <= self.compose <= 1 or self.workers < 0:
            raise ConfigError(f"[data] compose {self.compose}, workers {self.workers}", expected="0..1, not negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherConfig:
    """A network that says what it sees where labels are missing, and mixes with them where they exist.

    Attributes:
        model: OpenVINO IR or ONNX file, or a name of the zoo, whose heatmaps and PAFs have the run's skeleton.
        long_sides_px: Sizes at which it sees each picture; a view takes the one about 1.45 times its own scale.
        folder: Where its maps are kept; beside the run's own files unless given.
    """

    model: str
    long_sides_px: tuple[int, ...] = (480, 720)
    folder: str = ""

    def __post_init__(self) -> None:
        if not self.long_sides_px or any(side < 32 for side in self.long_sides_px):
            raise ConfigError(f"[teacher] long_sides_px is {self.long_sides_px}", expected="sizes of at least 32")


@dataclass(frozen=True, slots=True, kw_only=True)
class HintsConfig:
    """Inner features of another network that parts of this one learn to reproduce.

    Attributes:
        model: Weights of that network: a checkpoint, or the public MoveNet ``.tflite``.
        pairs: Part of this network and part of that one, by module name, such as ``["front.entry", "front.entry"]``.
        weight: Of this loss against that of the maps.
    """

    model: str
    pairs: tuple[tuple[str, str], ...]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.pairs or not self.weight > 0:
            raise ConfigError(f"[hints] pairs {self.pairs}, weight {self.weight}", expected="a pair, positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundingConfig:
    """The rounding of INT8, felt while training, so that `featherpose quantize` costs less afterwards.

    Attributes:
        keep: Regular expressions; layers whose name one of them matches stay in floating point, as with
            ``quantize --keep`` (which separates the parts of a name by ``/``, this by ``.``).
    """

    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pattern in self.keep:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(f"[rounding] {pattern!r} is no regular expression ({error})") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """What is minimised.

    Attributes:
        kind: ``l2``: masked squared error summed over stages, as published. ``soft``: squared error of the fields
            weighted towards limbs, and cross-entropy of heatmaps against soft targets. ``hints``: the features of
            [hints] alone.
        heatmap_weight: Weight of the heatmaps against the fields (soft).
        foreground: How much more a cell on a limb or keypoint counts (soft).
    """

    kind: Literal["l2", "soft", "hints"] = "l2"
    heatmap_weight: float = 6.0
    foreground: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserConfig:
    """How weights move.

    Attributes:
        kind: ``adam`` (the published recipe with its parameter groups), ``adamw``, or ``relative_adam``, whose
            steps are relative to each filter's size: made for networks whose batch norms are folded away.
        rate: Learning rate.
        weight_decay: On ordinary convolutions only.
        groups: Beginnings of parameter names and the factor of their rate, such as ``["pafs", 2.5]``.
        schedule: ``steps`` multiplies the rate by 0.333 at each milestone; ``cosine`` falls to 2 %.
        milestones: Fractions of the run (steps).
        warmup: Updates of linear rise.
        clip: Largest gradient norm; 0 does not clip.
        accumulate: Batches added up before an update.
        ema: Decay of the averaged weights that are validated and kept; 0 keeps the weights themselves.
        keep_start: Part of the starting weights in the kept ones. A start that has seen far more than your pictures
            forgets while it learns; the mean of before and after often beats both (Wortsman et al. 2022, "Robust
            fine-tuning").
    """

    kind: Literal["adam", "adamw", "relative_adam"] = "adam"
    rate: float = 4e-5
    weight_decay: float = 5e-4
    groups: tuple[tuple[str, float], ...] = ()
    schedule: Literal["steps", "cosine"] = "steps"
    milestones: tuple[float, ...] = (100 / 280, 200 / 280, 260 / 280)
    warmup: int = 0
    clip: float = 0.0
    accumulate: int = 1
    ema: float = 0.0
    keep_start: float = 0.0

    def __post_init__(self) -> None:
        if not self.rate > 0 or self.weight_decay < 0 or self.clip < 0 or self.warmup < 0 or self.accumulate < 1:
            raise ConfigError(f"[optimiser] {self} is impossible", expected="a positive rate, nothing negative")
        if not 0 <= self.ema < 1 or not 0 <= self.keep_start < 1:
            raise ConfigError(
                f"[optimiser] ema is {self.ema}, keep_start {self.keep_start}", expected="from 0 to under 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """How long, how large and how often.

    Attributes:
        steps: Batches in all.
        batch: Pictures of a global batch.
        seed: Of every chance.
        device: ``auto`` takes a GPU where PyTorch finds one, else the processor.
        precision: ``auto`` takes bf16 where it is native, FP16 on GPUs that lack it, else FP32.
        threads: Of PyTorch; 0 leaves its choice.
        log_every: Batches between lines of the log.
        save_every: Batches between checkpoints.
        validate_every: Batches between validations; 0 validates at the end only.
        validation_height: Network input height at validation.
        validation_limit: Most pictures of a validation; 0 takes all.
        validation_metric: ``ap`` (COCO keypoint AP) or ``pck`` (PCK@0.2 of single people).
    """

    steps: int = 1000
    batch: int = 16
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "f32", "bf16"] = "auto"
    threads: int = 0
    log_every: int = 20
    save_every: int = 200
    validate_every: int = 0
    validation_height: int = 256
    validation_limit: int = 100
    validation_metric: Literal["ap", "pck"] = "ap"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.log_every < 1 or self.save_every < 1:
            raise ConfigError(
                f"[run] {self} is impossible", expected="steps, batch, log_every, save_every of at least 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One training run.

    Example:
        >>> config = config_from_dict({"data": {"sources": [{"images": "photos", "annotations": "a.json"}]}})
        >>> config.optimiser.rate, config.network.kind
        (4e-05, 'lightweight-openpose')
    """

    data: DataConfig
    network: NetworkConfig = field(default_factory=NetworkConfig)
    teacher: TeacherConfig | None = None
    hints: HintsConfig | None = None
    rounding: RoundingConfig | None = None
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        if self.loss.kind == "hints" and self.hints is None:
            raise ConfigError("[loss] kind is 'hints', and there is no table [hints]")
        if self.network.frozen_in_engine and (self.hints or self.rounding):
            raise ConfigError(
                f"[network] frozen_in_engine together with [{'hints' if self.hints else 'rounding'}]",
                expected="one of them: inside the engine nobody can watch",
            )

    @property
    def skeleton(self) -> Skeleton:
        """Keypoints and limbs to learn."""
        return load_skeleton(self.data.skeleton)


def load_config(path: Path, *, overrides: Mapping[str, str] | None = None, folder: Path | None = None) -> TrainConfig:
    """Read a TOML file.

    Args:
        path: The file.
        overrides: Values that replace the file's, as TOML text, by dotted key: ``{"run.steps": "100"}``.
        folder: What relative paths in it are relative to; its own folder unless given.

    Raises:
        ConfigError: If the file is missing, no TOML, or says something unknown or impossible.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error})", expected="a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    if folder is not None:
        _keep_skeleton_beside(path, folder, data)
    for key, text in (overrides or {}).items():
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *parents, last = key.split(".")
        table: Any = data
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{key} does not name a value of {path}")
        table[last] = value
    return config_from_dict(data, folder=path.parent if folder is None else folder)


def _keep_skeleton_beside(path: Path, folder: Path, data: dict[str, Any]) -> None:
    """A skeleton file that came with the configuration stays good where the folder has none of that name."""
    table = data.get("data")
    name = table.get("skeleton") if isinstance(table, dict) else None
    if isinstance(name, str) and not (folder / name).is_file() and (path.parent / name).is_file():
        data["data"] = {**data["data"], "skeleton": str((path.parent / name).resolve())}


def config_from_dict(data: Mapping[str, Any], *, folder: Path = Path()) -> TrainConfig:
    """Build a configuration from plain data.

    Raises:
        ConfigError: If a key is unknown or missing, or a value is of the wrong kind.
    """
    config = _build(TrainConfig, data, "")
    if not isinstance(config, TrainConfig):
        raise ConfigError("the configuration is not a table")
    sources = tuple(_anchored(source, folder) for source in config.data.sources)
    validation = _anchored(config.data.validation, folder) if config.data.validation else None
    skeleton = config.data.skeleton
    if skeleton.endswith((".toml", ".json")):
        skeleton = str(folder / skeleton)
    located = dataclasses.replace(config.data, sources=sources, validation=validation, skeleton=skeleton)
    network = config.network
    if network.start and (folder / network.start).exists():
        network = dataclasses.replace(network, start=str(folder / network.start))
    teacher = config.teacher
    if teacher is not None:
        kept = str(folder / teacher.folder) if teacher.folder else ""
        # A file beside the configuration, or the name of a model in the zoo.
        beside = folder / teacher.model
        teacher = dataclasses.replace(teacher, model=str(beside) if beside.is_file() else teacher.model, folder=kept)
    hints = config.hints
    if hints is not None and (folder / hints.model).exists():
        hints = dataclasses.replace(hints, model=str(folder / hints.model))
    return dataclasses.replace(config, data=located, network=network, teacher=teacher, hints=hints)


def _anchored(source: PictureSource, folder: Path) -> PictureSource:
    annotations = folder / source.annotations if source.annotations else None
    return dataclasses.replace(source, images=folder / source.images, annotations=annotations)


def _build(kind: Any, value: Any, where: str) -> Any:
    """A value of a declared type from TOML's plain values; the error names the dotted key."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        choices = [c for c in get_args(kind) if c is not type(None)]
        return None if value is None else _build(choices[0], value, where)
    if origin is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"{where} is {value!r}", expected=f"one of {', '.join(map(str, get_args(kind)))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} is {value!r}", expected="a list")
        parts = get_args(kind)
        if len(parts) == 2 and parts[1] is Ellipsis:
            return tuple(_build(parts[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if len(parts) != len(value):
            raise ConfigError(f"{where} has {len(value)} entries", expected=f"{len(parts)}")
        return tuple(_build(p, v, where) for p, v in zip(parts, value, strict=True))
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where or 'the configuration'} is {value!r}", expected="a table")
        hints, fields = get_type_hints(kind), {f.name: f for f in dataclasses.fields(kind)}
        prefix = f"{where}." if where else ""
        if unknown := sorted(set(value) - set(fields)):
            raise ConfigError(f"{prefix}{unknown[0]} is unknown", expected=f"one of {', '.join(sorted(fields))}")
        missing = [
            name
            for name, f in fields.items()
            if name not in value and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise ConfigError(f"{prefix}{missing[0]} is missing")
        return kind(**{name: _build(hints[name], v, f"{prefix}{name}") for name, v in value.items()})
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{where} is {value!r}", expected=f"a value of kind {kind.__name__}")
    return value
