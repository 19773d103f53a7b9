"""The training loop, to be read from top to bottom."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from featherpose.data.coco import LabelledPicture, hold_out, read_coco, read_folder
from featherpose.data.dataset import Batch, EpochSampler, PoseDataset, TargetOptions
from featherpose.data.loading import load_batches
from featherpose.errors import CheckpointError, ConfigError, OutputError, TrainingError
from featherpose.nn.checkpoints import save_network
from featherpose.nn.feather import Feather
from featherpose.nn.networks import as_module
from featherpose.nn.outputs import PoseNetwork
from featherpose.skeleton import load_skeleton
from featherpose.training.arithmetic import Arithmetic, keep_freed_memory
from featherpose.training.checkpoint import load_state, save_state
from featherpose.training.config import DataConfig, TrainConfig
from featherpose.training.cuts import stages_of
from featherpose.training.frozen import frozen_part
from featherpose.training.hints import FeatureHints
from featherpose.training.logs import RunLog, draw_predictions, plot_curves
from featherpose.training.losses import loss_of
from featherpose.training.networks import build_network, still_norms
from featherpose.training.optimiser import build_optimiser, mixed_with, rate_at, update_average
from featherpose.training.processes import Processes
from featherpose.training.rounding import Rounding
from featherpose.training.teacher import prepare_teacher
from featherpose.training.validation import validate

__all__ = ["TrainResult", "load_pictures", "train"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run came to.

    Attributes:
        folder: Folder of the run: ``best.safetensors``, ``last.pt``, ``log.csv``, ``curves.png``, ``preview.jpg``.
        steps: Batches done.
        loss: Mean training loss of the last log interval; None if no step was left to do.
        metric: Best value on the validation pictures; None if there were none.
        pictures_per_s: Training pictures a second, validation not counted.
    """

    folder: Path
    steps: int
    loss: float | None
    metric: float | None
    pictures_per_s: float


def train(
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    on_step: Callable[[int, float], None] | None = None,
) -> TrainResult:
    """Train a network as a configuration says.

    Started by ``torchrun``, several processes share every batch; gradients are averaged, so that they equal those of
    one process for networks without batch norm (batch norm sees each process's share alone).

    Args:
        config: The run.
        folder: Receives everything the run writes.
        resume: Go on from ``last.pt``: same data order, optimiser, averages and random state, so that the result equals
            that of a run without interruption.
        on_step: Called with (step, loss) after each batch, for progress bars.

    Raises:
        ConfigError: If the configuration is impossible, or another than that of the run to resume.
        CheckpointError: If ``last.pt`` is damaged or missing.
        TrainingError: If the loss is not a number; the batch is kept as ``nan-batch.pt``.
        OutputError: If the folder cannot be written; earlier checkpoints stay intact.
    """
    # Whatever stops the run, its log is closed and complete.
    with contextlib.ExitStack() as open_files:
        return _train(config, folder, resume, on_step, open_files)


def _train(
    config: TrainConfig,
    folder: Path,
    resume: bool,
    on_step: Callable[[int, float], None] | None,
    open_files: contextlib.ExitStack,
) -> TrainResult:
    run, processes = config.run, Processes.join()
    _make_folder(folder)
    if run.threads:
        torch.set_num_threads(run.threads)
    torch.manual_seed(run.seed)
    arithmetic = Arithmetic.choose(run.device, run.precision, rank=processes.rank)
    keep_freed_memory()

    skeleton = config.skeleton
    training_pictures, validation_pictures = load_pictures(config.data, limit=run.validation_limit)
    teacher_folder = prepare_teacher(config.teacher, training_pictures, skeleton, folder) if config.teacher else None
    network = build_network(
        config.network, skeleton, [p.path for p in training_pictures], equalise=config.rounding is not None
    )
    module = arithmetic.place(as_module(network))
    dataset = PoseDataset(
        training_pictures, skeleton, augment=config.data.augment, seed=run.seed, compose=config.data.compose,
        targets=_targets_for(network, config.data), teacher_folder=teacher_folder,
        maps_count=config.loss.kind != "hints",
    )  # fmt: skip
    average = copy.deepcopy(network) if config.optimiser.ema else network
    # After the copy: a copy of a watched network would be watched as well.
    hints = FeatureHints(config.hints, module) if config.hints else None
    rounding = Rounding(config.rounding, module) if config.rounding else None
    trained = nn.ModuleList(part for part in (module, hints, rounding) if part is not None)
    optimiser = build_optimiser(module, config.optimiser, beside=hints)
    part = config.optimiser.keep_start
    begun = {name: value.clone() for name, value in module.state_dict().items()} if part else {}
    step, updates, best = 0, 0, -math.inf
    if resume:
        step, updates, best = _restore(folder / "last.pt", config, trained, as_module(average), optimiser)
    log = open_files.enter_context(RunLog(folder, resume_step=step)) if processes.rank == 0 else None
    sampler = EpochSampler(
        len(dataset), batch=run.batch, seed=run.seed, start=step, stop=run.steps, rank=processes.rank,
        world=processes.world,
    )  # fmt: skip

    # With the weights of a resumed run, should they be another start's.
    frozen = frozen_part(config.network, network, arithmetic)
    module.train()
    still_norms(module)
    losses: deque[float] = deque(maxlen=run.log_every)
    training_s, started = 0.0, time.perf_counter()
    first_step = step
    share, threads = run.batch // processes.world, max(1, config.data.workers)
    for made in load_batches(dataset, sampler, share, threads=threads):
        batch = made.to(arithmetic.device)
        with arithmetic.autocast():
            if frozen is not None:
                stages, hint = frozen.stages(batch.pictures), None
            else:
                pictures = arithmetic.pictures(batch.pictures)
                with rounding.watching(module) if rounding else contextlib.nullcontext():
                    stages = stages_of(network, pictures)
                hint = hints(pictures) if hints is not None else None
        loss, parts = loss_of(stages, batch, config.loss, skeleton, probabilities=isinstance(network, Feather))
        if hint is not None and config.hints is not None:
            loss = loss + config.hints.weight * hint
            parts["hints"] = hint.detach()
        if not torch.isfinite(loss):
            raise _not_a_number(folder, batch, step, float(loss.detach()))
        torch.autograd.backward(arithmetic.scaler.scale(loss / config.optimiser.accumulate))
        step += 1

        if step % config.optimiser.accumulate == 0 or step == run.steps:
            processes.average_gradients(trained)
            arithmetic.scaler.unscale_(optimiser)
            if config.optimiser.clip:
                nn.utils.clip_grad_norm_(trained.parameters(), config.optimiser.clip)
            rate = rate_at(config.optimiser, updates, math.ceil(run.steps / config.optimiser.accumulate))
            for group in optimiser.param_groups:
                group["lr"] = rate * group["factor"]
            arithmetic.scaler.step(optimiser)
            arithmetic.scaler.update()
            optimiser.zero_grad(set_to_none=True)
            updates += 1
            if average is not network:
                update_average(as_module(average), module, config.optimiser.ema, updates)

        losses.append(float(loss.detach()))
        if on_step is not None:
            on_step(step, losses[-1])
        last = step == run.steps
        if log is not None and (step % run.log_every == 0 or last):
            shares = {name: float(value) for name, value in parts.items()}
            log.record(
                step, "train", {"loss": sum(losses) / len(losses), "rate": optimiser.param_groups[0]["lr"], **shares}
            )
        if processes.rank == 0 and ((run.validate_every and step % run.validate_every == 0) or last):
            training_s += time.perf_counter() - started
            kept = mixed_with(average, begun, part) if part else average
            best = max(best, _validate_and_keep(config, folder, kept, validation_pictures, best, step, log, rounding))
            started = time.perf_counter()
        if processes.rank == 0 and (step % run.save_every == 0 or last):
            _save(folder / "last.pt", config, trained, as_module(average), optimiser, step, updates, best)

    training_s += time.perf_counter() - started
    if log is not None:
        plot_curves(log.path, folder / "curves.png")
    processes.leave()
    metric = best if math.isfinite(best) else None
    mean = sum(losses) / len(losses) if losses else None
    return TrainResult(folder, step, mean, metric, (step - first_step) * run.batch / max(training_s, 1e-9))


def load_pictures(config: DataConfig, *, limit: int = 0) -> tuple[list[LabelledPicture], list[LabelledPicture]]:
    """Training and validation pictures of a configuration.

    Args:
        config: Sources.
        limit: Most validation pictures, evenly chosen; 0 takes all.
    """
    skeleton = load_skeleton(config.skeleton)
    training: list[LabelledPicture] = []
    validation: list[LabelledPicture] = []
    for source in config.sources:
        if source.annotations is None:
            training += read_folder(source.images, skeleton)
            continue
        kept, held = hold_out(read_coco(source.annotations, source.images, skeleton), source.hold_out_every)
        training += kept
        validation += held
    if config.validation is not None:
        if config.validation.annotations is None:
            raise ConfigError("[data.validation] has no annotations")
        validation = read_coco(config.validation.annotations, config.validation.images, skeleton)
    if limit and len(validation) > limit:
        validation = [validation[i * len(validation) // limit] for i in range(limit)]
    return training, validation


def _targets_for(network: PoseNetwork, data: DataConfig) -> TargetOptions:
    # Strides and background follow from the network; a configuration cannot contradict them.
    background = not isinstance(network, Feather)
    return dataclasses.replace(
        data.targets, heatmap_stride=network.heatmap_stride, paf_stride=network.paf_stride, background=background
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made ({error.strerror})", expected="a folder to write to") from error


def _not_a_number(folder: Path, batch: Batch, step: int, loss: float) -> TrainingError:
    path = folder / "nan-batch.pt"
    save_state(path, {"pictures": batch.pictures, "heatmaps": batch.heatmaps, "pafs": batch.pafs, "step": step})
    return TrainingError(
        f"the loss of step {step} is {loss} (pictures {', '.join(batch.names[:3])}, …)",
        expected="a finite number",
        hint=f"the batch is kept as {path}; resume with a lower rate or with clipping",
    )


def _fingerprint(config: TrainConfig) -> str:
    """What must not change between a run and its continuation."""
    facts = dataclasses.asdict(config)
    for volatile in ("log_every", "save_every", "validate_every", "validation_limit", "threads", "device"):
        facts["run"].pop(volatile)
    facts["network"].pop("frozen_in_engine")  # another way to the same numbers
    return json.dumps(facts, sort_keys=True, default=str)


def _save(
    path: Path, config: TrainConfig, network: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer,
    step: int, updates: int, best: float,
) -> None:  # fmt: skip
    save_state(path, {
        "network": network.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict(),
        "random": torch.get_rng_state(), "step": step, "updates": updates, "best": best,
        "config": _fingerprint(config),
    })  # fmt: skip


def _restore(
    path: Path, config: TrainConfig, network: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[int, int, float]:
    state = load_state(path)
    missing = {"network", "average", "optimiser", "random", "step", "updates", "best", "config"} - set(state)
    if missing:
        raise CheckpointError(f"{path} is no training state: it lacks {min(missing)!r}")
    if state["config"] != _fingerprint(config):
        raise ConfigError(
            f"{path} belongs to a run with another configuration", expected="the same one", hint="use a new folder"
        )
    try:
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} does not fit the network ({str(error).splitlines()[0]})") from error
    torch.set_rng_state(state["random"])
    return int(state["step"]), int(state["updates"]), float(state["best"])


def _validate_and_keep(
    config: TrainConfig, folder: Path, network: PoseNetwork, pictures: list[LabelledPicture], best: float, step: int,
    log: RunLog | None, rounding: Rounding | None,
) -> float:  # fmt: skip
    """Measure, draw, and keep the weights if they are the best so far (or if there is nothing to measure by)."""
    value = -math.inf
    if pictures:
        metric = config.run.validation_metric
        felt = rounding.watching(as_module(network), learn=False) if rounding else contextlib.nullcontext()
        with felt:
            value, shown = validate(network, pictures, height=config.run.validation_height, metric=metric)
        _log.info("step %d: %s %.4f on %d pictures", step, metric.upper(), value, len(pictures))
        if log is not None:
            log.record(step, "validation", {metric.upper(): value})
        draw_predictions(folder / "preview.jpg", [image for image, _ in shown], [poses for _, poses in shown])
    if value > best or not pictures:
        facts = {"step": str(step)}
        if pictures:
            facts[config.run.validation_metric] = f"{value:.4f}"
        save_network(folder / "best.safetensors", network, config.network.kind, facts=facts)
    return value
