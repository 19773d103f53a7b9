"""Training a generator on one person's video."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featherpose.errors import CheckpointError, OptionError, TrainingError
from featherpose.files import make_folder, replacing
from featherpose.media.images import write_image
from featherpose.transfer.footage import Footage, nearest_frame, pose_maps
from featherpose.transfer.generator import Generator
from featherpose.transfer.generator_drawing import (
    FOOTAGE_FILE,
    MODEL_FILE,
    as_picture,
    as_tensor,
    cut,
    shifted_window,
)

__all__ = ["TrainOptions", "train_generator"]

_log = logging.getLogger(__name__)
_STATE = "state.pt"
_SAVE_EVERY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How a generator is trained.

    Attributes:
        minutes: Time to spend, all runs together.
        steps: Steps at most, all runs together.
        batch: Pairs of frames a step.
        rate: Maximum learning rate.
        seed: Of everything random.
        apart: In training the nearest frame is looked for at least so many frames away, as far as a pose that is not
            in the video is from it.
        preview_every: Steps between preview images.

    Raises:
        OptionError: If a value is outside its range.
    """

    minutes: float = 25.0
    steps: int = 1_500
    batch: int = 4
    rate: float = 2e-3
    seed: int = 0
    apart: int = 12
    preview_every: int = 200

    def __post_init__(self) -> None:
        if not (0 < self.minutes < 1e5 and 0 < self.steps < 1e7 and 0 < self.batch <= 64 and 0 < self.rate <= 1):
            raise OptionError(f"{self}", expected="positive numbers")


class _Samples:
    """Pairs of consecutive frames as tensors; costly values are computed once."""

    def __init__(self, footage: Footage, apart: int) -> None:
        self.footage = footage
        total = len(footage.frames)
        apart = min(apart, total // 4)  # a short video must have frames that are left to look at
        self.nearest = [
            nearest_frame(footage.points[t], footage, leave_out=(max(0, t - apart), t + apart + 1))
            for t in range(total)
        ]
        self.maps = [
            pose_maps(footage.points[t] - _origin(footage, t), footage.skeleton, _size(footage)) for t in range(total)
        ]
        self.near_maps = [
            pose_maps(footage.points[n] + shift - _origin(footage, t), footage.skeleton, _size(footage))
            for t, (n, shift) in enumerate(self.nearest)
        ]

    def inputs(self, t: int) -> tuple[np.ndarray, ...]:
        """Return nearest, plate, pose, nearest_pose and the frame itself."""
        footage, (near, shift) = self.footage, self.nearest[t]
        origin = footage.window.origin(footage.points[t], footage.size)
        return (
            shifted_window(footage.frames[near], footage.plate, footage.window, origin, shift),
            cut(footage.plate, footage.window, origin), self.maps[t], self.near_maps[t],
            cut(footage.frames[t], footage.window, origin),
        )  # fmt: skip


def _origin(footage: Footage, t: int) -> np.ndarray:
    return np.array(footage.window.origin(footage.points[t], footage.size), float)


def _size(footage: Footage) -> tuple[int, int]:
    return footage.window.width, footage.window.height


def train_generator(
    footage: Footage, folder: Path, options: TrainOptions, *, say: Callable[[str], None] = lambda _: None
) -> Path:
    """Train a generator, or go on where an earlier run of the folder stopped.

    Args:
        footage: The video to learn from.
        folder: Where the run is kept: ``state.pt``, ``generator.pt``, ``preview-*.png``, ``log.jsonl``. It is written
            every minute and when the training is interrupted, and can then be drawn with.
        options: Training options.
        say: Called with a line of progress from time to time.

    Returns:
        The file that `load_artist` reads.

    Raises:
        TrainingError: If the loss is not finite.
        CheckpointError: If the folder holds another video's run.
    """
    make_folder(folder)
    torch.manual_seed(options.seed)
    samples = _Samples(footage, options.apart)
    network = Generator(footage.skeleton.num_keypoints + footage.skeleton.num_limbs)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), options.rate, weight_decay=1e-4)
    averaged = torch.optim.swa_utils.AveragedModel(network, avg_fn=_average, use_buffers=True)
    step, spent_s = _resume(folder, network, averaged, optimizer, footage)
    if step > 0:
        say(f"goes on after step {step}, {spent_s / 60:.1f} minutes")
    _save_footage(folder, footage)
    began = saved = monotonic()
    network.train()
    native_bf16 = torch.cpu._is_avx512_bf16_supported()

    def seconds() -> float:
        return spent_s + monotonic() - began

    def save() -> Path:
        now_s = seconds()
        _save_state(folder, network, averaged, optimizer, step, now_s, footage)
        return _save_model(folder, averaged.module, footage, options, step, now_s)

    try:
        while step < options.steps:
            progress = max(step / options.steps, seconds() / (60 * options.minutes))
            if progress >= 1:
                break
            warm = min(1.0, (step + 1) / 50)
            for group in optimizer.param_groups:
                # A plain number: the state is read without pickled objects, such as numpy's scalars.
                group["lr"] = options.rate * warm * (0.5 + 0.5 * cos(pi * progress)) + 1e-6
            pairs = np.random.default_rng((options.seed, step)).integers(1, len(footage.frames), options.batch)
            with torch.autocast("cpu", torch.bfloat16, enabled=native_bf16):
                loss = _pair_loss(network, samples, pairs.tolist())
            if not torch.isfinite(loss):
                raise TrainingError(f"the loss is no number at step {step}", hint="try a lower rate")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            averaged.update_parameters(network)
            step += 1
            if step % 25 == 0:
                _note(folder, step, seconds(), loss.item())
            late = monotonic() - saved > _SAVE_EVERY_S
            shown = step % options.preview_every == 0 or step == 25
            if late or shown:
                say(f"step {step}, {seconds() / 60:.1f} minutes, loss {loss.item():.4f}")
            if shown:
                _preview(averaged.module, samples, folder / f"preview-{step:06d}.png")
            if late:
                save()
                saved = monotonic()
    except KeyboardInterrupt:
        save()
        say(f"stopped after step {step}; the same command goes on")
        raise
    return save()


def _average(kept: Tensor, new: Tensor, _count: Tensor | int) -> Tensor:
    return 0.995 * kept + 0.005 * new


def _pair_loss(network: nn.Module, samples: _Samples, frames: list[int]) -> Tensor:
    """Return the loss of two consecutive frames: on each frame, and on their difference."""
    before: Tensor | None = None
    drawn_before = truth_before = torch.zeros(())
    total = torch.zeros(())
    for offset in (-1, 0):
        near, plate, pose, near_pose, truth = zip(*(samples.inputs(t + offset) for t in frames), strict=True)
        nearest, target = as_tensor(list(near)), as_tensor(list(truth))
        maps = torch.from_numpy(np.stack(pose)), torch.from_numpy(np.stack(near_pose))
        drawn = network(nearest, nearest if before is None else before, as_tensor(list(plate)), *maps)
        total = total + _image_loss(drawn, target)
        if before is not None:
            total = total + 0.5 * ((drawn - drawn_before) - (target - truth_before)).abs().mean()
        before, drawn_before, truth_before = drawn.detach(), drawn, target
    return total / 2


def _image_loss(drawn: Tensor, target: Tensor) -> Tensor:
    difference = (drawn - target).abs().mean()
    return 0.4 * difference + 0.2 * (1 - _mean_ssim(drawn, target))


def _mean_ssim(one: Tensor, other: Tensor) -> Tensor:
    kernel = torch.exp(-torch.square(torch.arange(11.0) - 5) / (2 * 1.5**2))
    kernel = kernel / kernel.sum()
    luma = torch.tensor([0.114, 0.587, 0.299]).view(1, 3, 1, 1)
    with torch.autocast("cpu", enabled=False):
        a, b = (one.float() * luma).sum(1, keepdim=True), (other.float() * luma).sum(1, keepdim=True)
        stack = torch.cat((a, b, a * a, b * b, a * b), 1)
        across = nn.functional.conv2d(stack, kernel.view(1, 1, 1, 11).expand(5, 1, 1, 11), groups=5)
        means = nn.functional.conv2d(across, kernel.view(1, 1, 11, 1).expand(5, 1, 11, 1), groups=5)
        ma, mb, aa, bb, ab = (means[:, i : i + 1] for i in range(5))
        c1, c2 = 0.01**2, 0.03**2
        similarity: Tensor = (
            (2 * ma * mb + c1) * (2 * (ab - ma * mb) + c2)
            / ((ma * ma + mb * mb + c1) * (aa - ma * ma + bb - mb * mb + c2))
        )  # fmt: skip
        return similarity.mean()


def _note(folder: Path, step: int, seconds: float, loss: float) -> None:
    with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "seconds": round(seconds, 1), "loss": round(loss, 5)}) + "\n")


@torch.no_grad()
def _preview(network: nn.Module, samples: _Samples, path: Path) -> None:
    network.eval()
    rows = np.linspace(1, len(samples.footage.frames) - 1, 6).astype(int).tolist()
    columns = []
    for t in rows:
        near, plate, pose, near_pose, truth = samples.inputs(t)
        image = as_tensor([near])
        drawn = network(
            image, image, as_tensor([plate]), torch.from_numpy(pose)[None], torch.from_numpy(near_pose)[None]
        )
        columns.append(np.vstack((near, as_picture(drawn), truth)))
    network.train()
    write_image(path, np.hstack(columns))


def _identity(footage: Footage) -> dict[str, Any]:
    return {"frames": len(footage.frames), "size": list(footage.size), "skeleton": footage.skeleton.to_dict(),
            "window": asdict(footage.window)}  # fmt: skip


def _save_state(
    folder: Path, network: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer, step: int, seconds: float,
    footage: Footage,
) -> None:  # fmt: skip
    state = {
        "network": network.state_dict(), "averaged": averaged.state_dict(), "optimizer": optimizer.state_dict(),
        "step": step, "seconds": seconds, "identity": json.dumps(_identity(footage)),
    }  # fmt: skip
    with replacing(folder / _STATE) as part:
        torch.save(state, part)


def _resume(
    folder: Path, network: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer, footage: Footage
) -> tuple[int, float]:
    path = folder / _STATE
    if not path.is_file():
        return 0, 0.0
    try:
        state = torch.load(path, weights_only=True)
        if json.loads(state["identity"]) != _identity(footage):
            raise CheckpointError(f"{folder} holds the run of another video", hint="choose another folder")
        network.load_state_dict(state["network"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"]), float(state["seconds"])
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read: {error}", hint="remove it to begin anew") from error


def _save_footage(folder: Path, footage: Footage) -> None:
    with replacing(folder / FOOTAGE_FILE) as part, part.open("wb") as file:
        np.savez_compressed(file, frames=footage.frames, points=footage.points, plate=footage.plate)


def _save_model(
    folder: Path, network: nn.Module, footage: Footage, options: TrainOptions, step: int, seconds: float
) -> Path:
    about = {**_identity(footage), "steps": step, "minutes": round(seconds / 60, 1), "options": asdict(options)}
    path = folder / MODEL_FILE
    with replacing(path) as part:
        torch.save({"network": network.state_dict(), "about": json.dumps(about)}, part)
    return path
