"""The training loop, from configuration to kept weights."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from featherpose.data.coco import AnnotatedImage, hold_out, keypoints_alone, read_coco, read_folder
from featherpose.data.dataset import Batch, PoseDataset
from featherpose.data.loading import load_batches
from featherpose.data.regions import people_in_images, person_regions
from featherpose.errors import ConfigError, TrainingError
from featherpose.files import make_folder
from featherpose.methods.method import BoxEncoder
from featherpose.nn.checkpoints import save_network
from featherpose.nn.networks import as_module
from featherpose.nn.outputs import GuidedNetwork, PoseNetwork, Stage
from featherpose.skeleton import load_skeleton
from featherpose.training.boxes import crop_views
from featherpose.training.checkpoint import Progress, restore_run, save_run, save_state
from featherpose.training.config import DataConfig, LossConfig, TrainConfig
from featherpose.training.distillation.features import FeatureDistillation
from featherpose.training.distillation.teacher import prepare_teacher
from featherpose.training.distillation.top_down import label_boxes
from featherpose.training.distributed import Distributed
from featherpose.training.frozen import frozen_part
from featherpose.training.logs import RunLog, draw_predictions, plot_curves
from featherpose.training.networks import build_network, freeze_batch_norm_stats
from featherpose.training.optimizer import build_optimizer, interpolate_weights, learning_rate_at, update_ema
from featherpose.training.precision import MixedPrecision, keep_freed_memory, return_freed_memory
from featherpose.training.quantization_aware import QuantizationAware
from featherpose.training.validation import validate

__all__ = ["TrainResult", "load_images", "train"]

_log = logging.getLogger(__name__)

# Sides of the regions of validation, in sides of the box around a person's keypoints.
_VALIDATION_REGION = 1.25


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The result of a run.

    Attributes:
        folder: Folder of the run: ``best.safetensors``, ``last.pt``, ``log.csv``, ``curves.png``, ``preview.jpg``.
        steps: Batches done.
        loss: Mean training loss of the last log interval; None if no step was left to do.
        metric: Best value on the validation images; None if there were none.
        images_per_s: Training images a second, without validation.
    """

    folder: Path
    steps: int
    loss: float | None
    metric: float | None
    images_per_s: float


def train(
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    on_step: Callable[[int, float], None] | None = None,
) -> TrainResult:
    """Train a network by a configuration.

    Started by ``torchrun``, several processes share every batch; gradients are averaged, so that they equal those of
    one process for networks without batch norm (batch norm sees each process's share alone).

    Args:
        config: The run.
        folder: Folder of everything that the run writes.
        resume: Continue from ``last.pt`` with the same data order, optimizer, averages and random state, so that the
            result equals that of a run without interruption.
        on_step: Called with (step, loss) after each batch, for progress bars.

    Raises:
        ConfigError: If the configuration is impossible, or differs from that of the run to resume.
        CheckpointError: If ``last.pt`` is damaged or missing.
        TrainingError: If the loss is not a number; the batch is kept as ``nan-batch.pt``.
        OutputError: If the folder cannot be written; earlier checkpoints stay intact.
    """
    # The log is closed and complete whatever stops the run.
    with contextlib.ExitStack() as open_files:
        return _train(config, folder, resume, on_step, open_files)


def _train(
    config: TrainConfig,
    folder: Path,
    resume: bool,
    on_step: Callable[[int, float], None] | None,
    open_files: contextlib.ExitStack,
) -> TrainResult:
    run, processes = config.run, Distributed.init()
    make_folder(folder)
    if run.threads:
        torch.set_num_threads(run.threads)
    torch.manual_seed(run.seed)
    precision = MixedPrecision.choose(run.device, run.precision, rank=processes.rank)
    if keep_freed_memory():
        open_files.callback(return_freed_memory)

    skeleton = config.skeleton
    training_images, validation_images = load_images(
        config.data, limit=run.validation_limit, everyone=isinstance(config.method, BoxEncoder)
    )
    if run.validation_metric != "box_ap50":
        validation_images = [keypoints_alone(image) for image in validation_images]
    if config.top_down_teacher:
        training_images = label_boxes(config.top_down_teacher, training_images, skeleton)
    teacher_folder = None
    if config.teacher:
        teacher_folder = prepare_teacher(config.teacher, training_images, config.method, skeleton, folder)
    network = build_network(
        config.network, skeleton, [p.path for p in training_images], equalize=config.qat is not None
    )
    module = precision.place(as_module(network))
    processes.share_weights(module)
    dataset = PoseDataset(
        training_images, skeleton, method=network.method, outputs=network.outputs, augment=config.data.augment,
        targets=config.data.targets, seed=run.seed, mosaic=config.data.mosaic, teacher_folder=teacher_folder,
        needs_targets=config.loss.kind != "none", crops=crop_views(network, config.data.crops, training_images, folder),
    )  # fmt: skip
    average = copy.deepcopy(network) if config.optimizer.ema else network
    # After the copy, which would have the hooks as well.
    features = FeatureDistillation(config.feature_distillation, module) if config.feature_distillation else None
    rounding = QuantizationAware(config.qat, module) if config.qat else None
    trained = nn.ModuleList(part for part in (module, features, rounding) if part is not None)
    optimizer = build_optimizer(module, config.optimizer, beside=features)
    alpha = config.optimizer.wise_ft_alpha
    initial = {name: value.clone() for name, value in module.state_dict().items()} if alpha < 1 else {}
    before = Progress()
    if resume:
        before = restore_run(folder / "last.pt", config, trained, as_module(average), optimizer)
    step, updates, best = before.step, before.updates, before.best
    log = open_files.enter_context(RunLog(folder, resume_step=step)) if processes.rank == 0 else None
    sampler = processes.batches(
        len(dataset), run.batch_size, seed=run.seed, start=step, stop=run.steps, own_images=config.data.own_images
    )  # fmt: skip

    # After the weights of a resumed run are loaded.
    frozen = frozen_part(config.network, network, precision)
    module.train()
    freeze_batch_norm_stats(module)
    losses: deque[float] = deque(maxlen=run.log_every)
    training_s, started = 0.0, time.perf_counter()
    first_step = step
    threads = max(1, config.data.workers)
    for made in load_batches(dataset, sampler, sampler.share, threads=threads):
        batch = made.to(precision.device)
        with precision.autocast():
            guides = _guides(network, batch)
            if frozen is not None:
                stages, distance = frozen.stages(batch.images, *guides), None
            else:
                images = precision.images(batch.images)
                with rounding.watching(module) if rounding else contextlib.nullcontext():
                    stages = network.training_stages(images, *guides)
                distance = features(images) if features is not None else None
        loss, parts = _loss(network, stages, batch, config.loss)
        if distance is not None and config.feature_distillation is not None:
            loss = loss + config.feature_distillation.weight * distance
            parts["features"] = distance.detach()
        if not torch.isfinite(loss):
            raise _not_a_number(folder, batch, step, float(loss.detach()))
        torch.autograd.backward(precision.scaler.scale(loss / config.optimizer.grad_accum_steps))
        step += 1

        if step % config.optimizer.grad_accum_steps == 0 or step == run.steps:
            processes.average_gradients(trained)
            precision.scaler.unscale_(optimizer)
            if config.optimizer.grad_clip:
                nn.utils.clip_grad_norm_(trained.parameters(), config.optimizer.grad_clip)
            rate = learning_rate_at(config.optimizer, updates, math.ceil(run.steps / config.optimizer.grad_accum_steps))
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            precision.scaler.step(optimizer)
            precision.scaler.update()
            optimizer.zero_grad(set_to_none=True)
            updates += 1
            if average is not network:
                update_ema(as_module(average), module, config.optimizer.ema, updates)

        losses.append(float(loss.detach()))
        if on_step is not None:
            on_step(step, losses[-1])
        last = step == run.steps
        if log is not None and (step % run.log_every == 0 or last):
            shares = {name: float(value) for name, value in parts.items()}
            log.record(
                step, "train", {"loss": sum(losses) / len(losses), "lr": optimizer.param_groups[0]["lr"], **shares}
            )
        if processes.rank == 0 and ((run.validate_every and step % run.validate_every == 0) or last):
            training_s += time.perf_counter() - started
            kept = interpolate_weights(average, initial, alpha) if alpha < 1 else average
            found = _validate_and_keep(
                config, folder, kept, validation_images, Progress(step, updates, best, before.seconds + training_s),
                log, rounding,
            )  # fmt: skip
            best, started = max(best, found), time.perf_counter()
        if processes.rank == 0 and (step % run.save_every == 0 or last):
            seconds = before.seconds + training_s + time.perf_counter() - started
            progress = Progress(step, updates, best, seconds)
            save_run(folder / "last.pt", config, trained, as_module(average), optimizer, progress)

    training_s += time.perf_counter() - started
    if log is not None:
        plot_curves(log.path, folder / "curves.png")
    processes.close()
    metric = best if math.isfinite(best) else None
    mean = sum(losses) / len(losses) if losses else None
    return TrainResult(folder, step, mean, metric, (step - first_step) * run.batch_size / max(training_s, 1e-9))


def load_images(
    config: DataConfig, *, limit: int = 0, everyone: bool = False
) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """Read the training and validation samples of a configuration.

    Args:
        config: Sources.
        limit: Most validation images, evenly chosen; 0 takes all.
        everyone: Whether those of whom only a box is known are people, too.
    """
    skeleton = load_skeleton(config.skeleton)
    training: list[AnnotatedImage] = []
    validation: list[AnnotatedImage] = []
    for source in config.sources:
        if source.annotations is None:
            training += read_folder(source.images, skeleton)
            continue
        read = read_coco(
            source.annotations, source.images, skeleton, everyone=everyone, complete=source.complete
        )  # fmt: skip
        kept, held = hold_out(read, source.hold_out_every)
        training += kept
        validation += held
    if config.validation is not None:
        if config.validation.annotations is None:
            raise ConfigError("[data.validation] has no annotations")
        validation = read_coco(config.validation.annotations, config.validation.images, skeleton, everyone=everyone)
    if config.crops is not None:
        training, validation = people_in_images(training), people_in_images(validation, alone=True)
    elif config.person_regions:
        width, height = config.augment.size
        training = person_regions(training, config.person_regions, aspect=width / height)
        validation = person_regions(validation, _VALIDATION_REGION, aspect=width / height, alone=True)
    if limit and len(validation) > limit:
        validation = [validation[i * len(validation) // limit] for i in range(limit)]
    return training, validation


def _guides(network: PoseNetwork, batch: Batch) -> tuple[dict[str, Tensor], ...]:
    """Return the targets that a network is told in training, if it is told any."""
    if not isinstance(network, GuidedNetwork):
        return ()
    return ({name: batch.values[name] for name in network.guides},)


def _loss(
    network: PoseNetwork, stages: Sequence[Stage], batch: Batch, config: LossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    if config.kind == "none":
        return torch.zeros((), device=batch.images.device), {}
    return network.method.loss(
        [stage._asdict() for stage in stages], batch.values, batch.masks, config, network.skeleton,
        probabilities=network.probabilities,
    )  # fmt: skip


def _not_a_number(folder: Path, batch: Batch, step: int, loss: float) -> TrainingError:
    path = folder / "nan-batch.pt"
    save_state(path, {"images": batch.images, "values": batch.values, "masks": batch.masks, "step": step})
    return TrainingError(
        f"the loss of step {step} is {loss} (images {', '.join(batch.names[:3])}, …)",
        expected="a finite number",
        hint=f"the batch is kept as {path}; resume with a lower lr or with grad_clip",
    )


def _validate_and_keep(
    config: TrainConfig, folder: Path, network: PoseNetwork, images: list[AnnotatedImage], progress: Progress,
    log: RunLog | None, rounding: QuantizationAware | None,
) -> float:  # fmt: skip
    """Measure, draw, and keep the weights if they are the best so far or there is no validation."""
    value = -math.inf
    if images:
        metric = config.run.validation_metric
        rounded = rounding.watching(as_module(network), learn=False) if rounding else contextlib.nullcontext()
        with rounded:
            value, shown = validate(
                network, images, height=config.run.validation_height, metric=metric,
                in_boxes=config.data.crops is not None,
            )  # fmt: skip
        _log.info("step %d: %s %.4f on %d images", progress.step, metric.upper(), value, len(images))
        if log is not None:
            log.record(progress.step, "validation", {metric.upper(): value})
        draw_predictions(folder / "preview.jpg", [image for image, _ in shown], [poses for _, poses in shown])
    if value > progress.best or not images:
        facts = {"step": str(progress.step), "minutes": f"{progress.seconds / 60:.1f}"}
        if images:
            facts[config.run.validation_metric] = f"{value:.4f}"
        save_network(folder / "best.safetensors", network, config.network.arch, facts=facts)
    return value
