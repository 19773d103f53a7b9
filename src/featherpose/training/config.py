"""The configuration of a training run: a TOML file read into frozen dataclasses; keys and values are checked."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from featherpose.data.augment import AugmentOptions
from featherpose.data.coco import ImageFolder
from featherpose.data.crops import CropOptions
from featherpose.errors import ConfigError
from featherpose.methods.boxes.person_boxes import PERSON_BOXES
from featherpose.methods.method import BoxEncoder, Method
from featherpose.nn.networks import NETWORK_NAMES, network_factory
from featherpose.parsing import Limits, ParseError, is_file, parse_toml, read_document, shown
from featherpose.skeleton import Skeleton, load_skeleton
from featherpose.training.config_values import build

__all__ = [
    "DataConfig",
    "FeatureDistillationConfig",
    "LossConfig",
    "NetworkConfig",
    "OptimizerConfig",
    "QatConfig",
    "RunConfig",
    "TeacherConfig",
    "TopDownTeacherConfig",
    "TrainConfig",
    "config_from_dict",
    "load_config",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """The network and its initial weights.

    Attributes:
        arch: A name of `featherpose.nn.networks.NETWORK_NAMES`: ``lightweight-openpose``, ``feather``,
            ``single-person``, …; the network decides on the pose method.
        init_from: Initial weights: a checkpoint or ``.safetensors`` of the same network, for feather also the public
            MoveNet ``.tflite`` or ``bundled`` for the weights in the package; empty for random weights. Keypoints and
            limbs are matched by name.
        refinements: Refinement stages (OpenPose and Lightweight OpenPose); the published number unless given.
        channels: Width of the PAF head (feather, 128 unless given) or of the first level (single-person, 32).
        blocks: Blocks of the PAF head at stride 8 (feather, 4) or of each level (single-person, 2).
        context_blocks: Dense convolutions between the PAF head and its share of the heatmaps (feather, 2).
        fine: Whether the PAF head's share of the heatmaps has stride 4 as well (feather, true).
        exchanges: Exchanges with two, three and four branches (refiner, 2, 4 and 2).
        far: Whether the refiner's branches exchange features over several strides at once (true).
        gated: Whether the refiner's units have gates (true).
        widths: Channels at strides 2, 4, 8, 16 and 32 (refiner-dense, 24, 48, 96, 112, 128).
        depths: Residual blocks at strides 8, 16 and 32, and at stride 8 behind their sum (refiner-dense, 3, 3, 2, 2).
        prior: Whether the network also takes the pose that another network found (refiner-dense, false, or what the
            initial weights have); training disturbs annotated poses for it.
        crop_shape: Width, height and margin of the crops (refiner, 160, 224, 1.1; refiner-dense, 128, 192, 1).
        freeze: Prefixes of the names of parameters that are not trained, such as ``front``.
        frozen_in_engine: Compute the frozen part in OpenVINO, if it is all that feeds the trained rest.
        features_folder: With ``frozen_in_engine``: keep the frozen part's features in this folder, in half precision,
            so that another training on the same views, such as that of another head, reads them there; gigabytes.
    """

    arch: str = "lightweight-openpose"
    init_from: str = ""
    refinements: int | None = None
    channels: int | None = None
    blocks: int | None = None
    context_blocks: int | None = None
    fine: bool | None = None
    exchanges: tuple[int, ...] | None = None
    far: bool | None = None
    gated: bool | None = None
    widths: tuple[int, ...] | None = None
    depths: tuple[int, ...] | None = None
    prior: bool | None = None
    crop_shape: tuple[float, float, float] | None = None
    freeze: tuple[str, ...] = ()
    frozen_in_engine: bool = False
    features_folder: str = ""

    def __post_init__(self) -> None:
        if self.arch not in NETWORK_NAMES:
            raise ConfigError(f"network.arch is {self.arch!r}", expected=f"one of {', '.join(NETWORK_NAMES)}")
        if self.features_folder and not self.frozen_in_engine:
            raise ConfigError("[network] features_folder without frozen_in_engine", expected="both, or neither")
        if (self.channels is not None and self.channels < 8) or min(self.blocks or 0, self.context_blocks or 0) < 0:
            raise ConfigError(
                f"[network] channels {self.channels}, blocks {self.blocks}, context_blocks {self.context_blocks}",
                expected="at least 8, not negative",
            )

    @property
    def options(self) -> dict[str, int | tuple[float, ...]]:
        """Return the options of `featherpose.nn.networks.create_network`, without those that are not given."""
        names = ("refinements", "channels", "blocks", "context_blocks", "fine",
                 "exchanges", "far", "gated", "widths", "depths", "prior", "crop_shape")  # fmt: skip
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Images, augmentation and targets.

    Attributes:
        sources: Folders and annotation files; relative paths are relative to the configuration file.
        skeleton: Name of a built-in skeleton or a skeleton file.
        validation: A folder with its own annotations; the held-out images of ``sources`` if none is given.
        augment: Ranges of the views.
        targets: Form of the targets: an instance of the pose method's ``Targets``; None for the recommended form.
        mosaic: Probability that a sample is made of four views.
        person_regions: Over 0, samples are regions around single people, with sides this many times those of the box
            around the keypoints; validation then looks at regions 1.25 times as large as the box. 0 for whole images.
        crops: Samples, and images of validation, are crops of people in boxes as they are found in use, drawn so; for
            networks that take crops. None for whole images or ``person_regions``.
        workers: Batches that are loaded at the same time, each in a thread.
        own_images: Under ``torchrun``, whether each machine has images of its own in the same folders; otherwise all
            machines see the same images.
    """

    sources: tuple[ImageFolder, ...]
    skeleton: str = "openpose_18"
    validation: ImageFolder | None = None
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    targets: Any = None
    mosaic: float = 0.0
    person_regions: float = 0.0
    crops: CropOptions | None = None
    workers: int = 0
    own_images: bool = False

    def __post_init__(self) -> None:
        if not self.sources:
            raise ConfigError("[data] has no sources", expected="at least one [[data.sources]]")
        if not 0 <= self.mosaic <= 1 or self.workers < 0:
            raise ConfigError(f"[data] mosaic {self.mosaic}, workers {self.workers}", expected="0..1, not negative")
        if self.person_regions and not 1 <= self.person_regions <= 10:
            raise ConfigError(f"[data] person_regions {self.person_regions}", expected="0, or from 1 to 10")


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherConfig:
    """A network whose outputs are targets: alone where labels are missing, combined with labels where they exist.

    Attributes:
        model: OpenVINO IR or ONNX file, or a name of the zoo; method and skeleton are those of the run.
        long_sides_px: Sizes at which it sees each image; a view takes the one about 1.45 times its own scale.
        scales: An ensemble: the outputs for a size are the mean of those at these multiples of it, resampled.
        mirror: Whether the mirrored image is averaged in as well.
        max_enlargement: Sizes that enlarge an image more than this are left out of the mean.
        folder: Folder of its outputs; beside the run's own files unless given.
    """

    model: str
    long_sides_px: tuple[int, ...] = (480, 720)
    scales: tuple[float, ...] = (1.0,)
    mirror: bool = True
    max_enlargement: float = 2.5
    folder: str = ""

    def __post_init__(self) -> None:
        if not self.long_sides_px or any(side < 32 for side in self.long_sides_px):
            raise ConfigError(f"[teacher] long_sides_px is {self.long_sides_px}", expected="sizes of at least 32")
        if not self.scales or any(not 0.1 <= scale <= 10 for scale in self.scales):
            raise ConfigError(f"[teacher] scales is {self.scales}", expected="numbers from 0.1 to 10")


@dataclass(frozen=True, slots=True, kw_only=True)
class TopDownTeacherConfig:
    """A single-person network that labels the people of whom the annotations have only a box.

    Attributes:
        model: A model file or a name of the zoo; its skeleton must share keypoints with the run's.
        min_score: Keypoints of a lower score are not labels; what lies in the box beside the labels stays unknown.
        min_keypoints: People with fewer such keypoints stay a box.
        min_box_px: Boxes with a shorter side stay as they are.
    """

    model: str = "refiner"
    min_score: float = 0.3
    min_keypoints: int = 4
    min_box_px: float = 24.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1 or self.min_keypoints < 1 or not self.min_box_px > 0:
            raise ConfigError(
                f"[top_down_teacher] min_score {self.min_score}, min_keypoints {self.min_keypoints}, "
                f"min_box_px {self.min_box_px}",
                expected="0 to 1, at least 1, positive",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDistillationConfig:
    """Inner features of another network that parts of this one learn to reproduce (Romero et al. 2015, "FitNets").

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
            raise ConfigError(
                f"[feature_distillation] pairs {self.pairs}, weight {self.weight}", expected="a pair, a positive weight"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class QatConfig:
    """Quantization-aware training.

    Attributes:
        keep: Regular expressions; layers whose name one of them matches stay in floating point, as with
            ``quantize --keep`` (which separates the parts of a name by ``/``, this by ``.``).
    """

    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pattern in self.keep:
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise ConfigError(f"[qat] {shown(pattern)} is no regular expression ({error})") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """The loss.

    Attributes:
        kind: ``l2``: masked squared error summed over stages, as published. ``soft``: cross-entropy of heatmaps against
            soft targets, and squared error of fields weighted towards limbs. ``none``: no targets, only the features of
            [feature_distillation].
        heatmap_weight: Weight of the heatmaps against the fields (soft).
        foreground: How much more a cell on a limb or keypoint counts (soft).
    """

    kind: Literal["l2", "soft", "none"] = "l2"
    heatmap_weight: float = 6.0
    foreground: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """Optimizer, schedule and averaging.

    Attributes:
        kind: ``adam`` (the published recipe with its parameter groups), ``adamw``, ``relative_adam``, whose steps are
            relative to each filter's size: made for networks whose batch norms are folded away, or ``muon``, which
            learns dense convolutions from fresh weights with fewer images.
        lr: Learning rate.
        weight_decay: On ordinary convolutions only.
        lr_multipliers: Prefixes of parameter names and the factor of their rate, such as ``["pafs", 2.5]``.
        schedule: ``steps`` multiplies the rate by 0.333 at each milestone; ``cosine`` falls to 2 %.
        milestones: Fractions of the run (steps).
        warmup: Updates of linear rise.
        grad_clip: Largest gradient norm; 0 does not clip.
        grad_accum_steps: Batches whose gradients are added before an update.
        ema: Decay of the averaged weights that are validated and kept; 0 keeps the weights themselves.
        wise_ft_alpha: The kept weights are (1 - alpha) times the initial and alpha times the trained ones (Wortsman et
            al. 2022, "Robust fine-tuning of zero-shot models", equation 1). Initial weights that have seen far more
            images than yours forget during training; the mean is often better than both. 1 keeps the trained ones.
    """

    kind: Literal["adam", "adamw", "relative_adam", "muon"] = "adam"
    lr: float = 4e-5
    weight_decay: float = 5e-4
    lr_multipliers: tuple[tuple[str, float], ...] = ()
    schedule: Literal["steps", "cosine"] = "steps"
    milestones: tuple[float, ...] = (100 / 280, 200 / 280, 260 / 280)
    warmup: int = 0
    grad_clip: float = 0.0
    grad_accum_steps: int = 1
    ema: float = 0.0
    wise_ft_alpha: float = 1.0

    def __post_init__(self) -> None:
        nonnegative = self.weight_decay >= 0 and self.grad_clip >= 0 and self.warmup >= 0
        if not self.lr > 0 or not nonnegative or self.grad_accum_steps < 1:
            raise ConfigError(f"[optimizer] {self} is impossible", expected="a positive lr, nothing negative")
        if not 0 <= self.ema < 1 or not 0 < self.wise_ft_alpha <= 1:
            raise ConfigError(
                f"[optimizer] ema is {self.ema}, wise_ft_alpha {self.wise_ft_alpha}",
                expected="ema from 0 to under 1, wise_ft_alpha over 0 to 1",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Length, batch size, device, and intervals.

    Attributes:
        steps: Batches in all.
        batch_size: Images of a global batch.
        seed: Seed of all random choices.
        device: ``auto`` takes a GPU where PyTorch finds one, else the processor.
        precision: ``auto`` takes bf16 where it is native, FP16 on GPUs that lack it, else FP32.
        threads: Threads of PyTorch; 0 for its own choice.
        log_every: Batches between lines of the log.
        save_every: Batches between checkpoints.
        validate_every: Batches between validations; 0 validates at the end only.
        validation_height: Network input height at validation.
        validation_limit: Most images of a validation; 0 takes all.
        validation_metric: ``ap`` (COCO keypoint AP), ``pck`` (PCK@0.2 of single people), or ``box_ap50`` (COCO's AP50
            of boxes, for detectors).
    """

    steps: int = 1000
    batch_size: int = 16
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int = 0
    log_every: int = 20
    save_every: int = 200
    validate_every: int = 0
    validation_height: int = 256
    validation_limit: int = 100
    validation_metric: Literal["ap", "pck", "box_ap50"] = "ap"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or self.log_every < 1 or self.save_every < 1:
            raise ConfigError(
                f"[run] {self} is impossible", expected="steps, batch_size, log_every, save_every of at least 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One training run.

    Example:
        >>> config = config_from_dict({"data": {"sources": [{"images": "photos", "annotations": "a.json"}]}})
        >>> config.optimizer.lr, config.network.arch
        (4e-05, 'lightweight-openpose')
    """

    data: DataConfig
    network: NetworkConfig = field(default_factory=NetworkConfig)
    teacher: TeacherConfig | None = None
    top_down_teacher: TopDownTeacherConfig | None = None
    feature_distillation: FeatureDistillationConfig | None = None
    qat: QatConfig | None = None
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        if self.loss.kind == "none" and self.feature_distillation is None:
            raise ConfigError("[loss] kind is 'none', and there is no table [feature_distillation]")
        if self.network.frozen_in_engine and (self.feature_distillation or self.qat):
            other = "feature_distillation" if self.feature_distillation else "qat"
            raise ConfigError(
                f"[network] frozen_in_engine together with [{other}]",
                expected="one of them: layers inside the engine cannot be observed",
            )
        if self.data.crops is not None:
            if network_factory(self.network.arch).kind.crop is None:
                raise ConfigError(f"[data.crops] for {self.network.arch}", expected="a network that takes crops")
            if self.data.person_regions or self.data.mosaic:
                raise ConfigError(
                    "[data.crops] together with person_regions or mosaic", expected="one of them: a sample is a crop"
                )
        if isinstance(self.method, BoxEncoder) and (self.data.mosaic or self.data.person_regions or self.data.crops):
            raise ConfigError(
                f"[data] mosaic, person_regions or crops for {self.network.arch}", expected="views of whole images"
            )
        if isinstance(self.method, BoxEncoder) and (self.teacher or self.top_down_teacher):
            raise ConfigError(
                f"[{'teacher' if self.teacher else 'top_down_teacher'}] for {self.network.arch}",
                expected="annotated boxes alone: a teacher has none",
            )
        of_boxes, metric = self.method.name == PERSON_BOXES.name, self.run.validation_metric
        if of_boxes != (metric == "box_ap50"):
            raise ConfigError(
                f"[run] validation_metric {metric!r} for {self.network.arch}",
                expected="'box_ap50'" if of_boxes else "'ap' or 'pck'",
            )
        if self.data.targets is not None and not isinstance(self.data.targets, self.method.Targets):
            raise ConfigError(
                f"[data.targets] of type {type(self.data.targets).__name__}",
                expected=f"those of method {self.method.name}, which {self.network.arch} has",
            )

    @property
    def method(self) -> Method:
        """Return the pose method of the network."""
        return network_factory(self.network.arch).kind.method

    @property
    def skeleton(self) -> Skeleton:
        """Return the keypoints and limbs to learn."""
        return load_skeleton(self.data.skeleton)


def load_config(path: Path, *, overrides: Mapping[str, str] | None = None, folder: Path | None = None) -> TrainConfig:
    """Read a TOML file.

    Args:
        path: The file.
        overrides: Values that replace the file's, as TOML text, by dotted key: ``{"run.steps": "100"}``.
        folder: What relative paths in it are relative to; its own folder unless given.

    Raises:
        ConfigError: If the file is missing or no TOML, a key is unknown, or a value is impossible.
    """
    try:
        data = parse_toml(read_document(path, Limits().max_bytes))
    except ParseError as error:
        raise ConfigError(f"{path} {error}", expected="a TOML file") from error
    if folder is not None:
        _keep_skeleton_beside(path, folder, data)
    for key, text in (overrides or {}).items():
        try:
            value = parse_toml(f"value = {text}")["value"]
        except ParseError:
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
    """Refer to the skeleton file beside the configuration where the folder has none of that name."""
    table = data.get("data")
    name = table.get("skeleton") if isinstance(table, dict) else None
    if isinstance(name, str) and not is_file(folder / name) and is_file(path.parent / name):
        data["data"] = {**data["data"], "skeleton": str((path.parent / name).resolve())}


def config_from_dict(data: Mapping[str, Any], *, folder: Path = Path()) -> TrainConfig:
    """Build a configuration from plain data.

    Raises:
        ConfigError: If a key is unknown or missing, or a value is of the wrong kind.
    """
    config = build(TrainConfig, _with_targets(data), "")
    if not isinstance(config, TrainConfig):
        raise ConfigError("the configuration is not a table")
    sources = tuple(_anchored(source, folder) for source in config.data.sources)
    validation = _anchored(config.data.validation, folder) if config.data.validation else None
    skeleton = config.data.skeleton
    if skeleton.endswith((".toml", ".json")):
        skeleton = str(folder / skeleton)
    located = dataclasses.replace(config.data, sources=sources, validation=validation, skeleton=skeleton)
    network = config.network
    if network.init_from and is_file(folder / network.init_from):
        network = dataclasses.replace(network, init_from=str(folder / network.init_from))
    if network.features_folder:
        network = dataclasses.replace(network, features_folder=str(folder / network.features_folder))
    teacher = config.teacher
    if teacher is not None:
        kept = str(folder / teacher.folder) if teacher.folder else ""
        # A file beside the configuration, or the name of a model in the zoo.
        beside = folder / teacher.model
        teacher = dataclasses.replace(teacher, model=str(beside) if is_file(beside) else teacher.model, folder=kept)
    top_down = config.top_down_teacher
    if top_down is not None and is_file(folder / top_down.model):
        top_down = dataclasses.replace(top_down, model=str(folder / top_down.model))
    features = config.feature_distillation
    if features is not None and is_file(folder / features.model):
        features = dataclasses.replace(features, model=str(folder / features.model))
    return dataclasses.replace(
        config, data=located, network=network, teacher=teacher, top_down_teacher=top_down, feature_distillation=features
    )


def _with_targets(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Build ``data.targets``, whose fields are those of the network's pose method."""
    tables = data.get("data"), data.get("network", {})
    if not all(isinstance(table, Mapping) for table in tables) or "targets" not in data["data"]:
        return data
    arch = data.get("network", {}).get("arch", NetworkConfig().arch)
    if arch not in NETWORK_NAMES:
        return data  # reported where the network is built
    form = network_factory(arch).kind.method.Targets
    return {**data, "data": {**data["data"], "targets": build(form, data["data"]["targets"], "data.targets")}}


def _anchored(source: ImageFolder, folder: Path) -> ImageFolder:
    annotations = folder / source.annotations if source.annotations else None
    return dataclasses.replace(source, images=folder / source.images, annotations=annotations)
