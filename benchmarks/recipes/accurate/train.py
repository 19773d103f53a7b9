r"""Train networks on one GPU, side by side on the same views.

    python benchmarks/recipes/accurate/train.py a.npz b.npz --released released.safetensors --out RUN \
        --nets s:320,96,192,3:2e-3:1 m:512,128,512,5:3e-4:3 --seconds 555

a.npz and b.npz are files of `pack`; half of a batch is of each. A network is
NAME:WIDTH,FEATURES,HIDDEN,BLOCKS:RATE:EVERY (see `FineOpenPose`); it is trained by every EVERY-th batch. Written are
NAME-70.safetensors and NAME-100.safetensors, the averaged weights after 70 % of the time and at its end, and curve.csv.
Without a GPU it runs on the processor, which is good for a test with --limit, --batch and --view.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import torch
from network import FineOpenPose
from released import read_released
from resident import FIELDS_X, FIELDS_Y, Resident, load, teacher_maps
from safetensors.torch import save_file
from start import start_from_released
from torch import Tensor, nn
from torch.nn import functional as F
from views import Views, sample_views

from featherpose.errors import OptionError
from featherpose.nn.human_pose_estimation_0001 import HumanPoseEstimation0001
from featherpose.nn.outputs import StageMaps

Network = TypeVar("Network", bound=nn.Module)

SEED = 7
CANVASES = (480, 336)
"""Sides in pixels that hold every photograph of a.npz and of b.npz."""

HEATMAP_WEIGHT, PEAK_WEIGHT, LIMB_WEIGHT, INITIAL_WEIGHT = 2.0, 4.0, 2.0, 0.5
"""Of the heatmaps' error, of more of it at peaks, of the fields' at limbs, and of the whole initial stage."""
WEIGHT_DECAY, WARM_UP, LARGEST_GRADIENT = 0.02, 100, 2.0
AVERAGE = 0.998
"""Decay of the moving average of the weights for each step; shorter over the first steps."""
SAVED_AT = (0.7, 1.0)
"""Parts of the time after which weights are saved."""
NORM_BATCHES = 20
"""Batches that batch norms are measured on, because the averaged weights have never run."""
LOG_STEPS, LOG_SECONDS = 50, 15.0


@dataclass(frozen=True, slots=True)
class NetSpec:
    """A network of the command line, see the top."""

    name: str
    width: int
    features: int
    hidden: int
    blocks: int
    rate: float
    every: int

    @classmethod
    def parse(cls, text: str) -> NetSpec:
        """Read a network of the command line."""
        try:
            name, shape, rate, every = text.split(":")
            width, features, hidden, blocks = map(int, shape.split(","))
            return cls(name, width, features, hidden, blocks, float(rate), int(every))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not NAME:WIDTH,FEATURES,HIDDEN,BLOCKS:RATE:EVERY") from error


def loss_of(stages: Sequence[StageMaps], views: Views) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss of all stages, and the last stage's weighted squared errors of heatmaps and fields.

    Cells count more where the target is: background is nearly everywhere.
    """
    strength = (views.fields[:, FIELDS_X] ** 2 + views.fields[:, FIELDS_Y] ** 2).sqrt()
    weight = torch.ones_like(views.fields)
    weight[:, FIELDS_X] += LIMB_WEIGHT * strength
    weight[:, FIELDS_Y] += LIMB_WEIGHT * strength
    total = heatmaps = fields = torch.zeros((), device=views.fields.device)
    for i, maps in enumerate(stages):
        same = maps.heatmaps.shape[-1] == views.heatmaps.shape[-1]
        target = views.heatmaps if same else F.avg_pool2d(views.heatmaps, 2)
        heatmaps = ((maps.heatmaps.float() - target) ** 2 * (1 + PEAK_WEIGHT * target)).sum(1).mean()
        fields = ((maps.pafs.float() - views.fields) ** 2 * weight).sum(1).mean()
        total = total + (HEATMAP_WEIGHT * heatmaps + fields) * (INITIAL_WEIGHT if i == 0 else 1.0)
    return total, heatmaps.detach(), fields.detach()


class Run:
    """A network in training: its optimizer, the moving average of its weights, its last errors.

    Args:
        network: On its device.
        spec: Its rate.
        compiled: Whether PyTorch compiles it.
    """

    def __init__(self, network: FineOpenPose, spec: NetSpec, *, compiled: bool = False) -> None:
        self.network, self.spec = network, spec
        self.forward = torch.compile(network) if compiled else network
        self.parameters = list(network.parameters())
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        filters = [p for p in self.parameters if p.ndim > 1]
        others = [p for p in self.parameters if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": filters, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}],
            lr=spec.rate, fused=self.parameters[0].is_cuda,
        )  # fmt: skip
        self._last: list[Tensor] = []

    def train(self, views: Views, part: float, step: int) -> None:
        """Take a step; ``part`` of the time is over, and so many steps of this network."""
        rate = self.spec.rate * min(1, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * min(1, part)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with _autocast(views.images):
            stages = self.forward(views.images)
        total, *self._last = loss_of(stages, views)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        nn.utils.clip_grad_norm_(self.parameters, LARGEST_GRADIENT)
        self.optimizer.step()
        decay = min(AVERAGE, (step + 1) / (step + 10))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def save(self, path: Path, batches: Sequence[Tensor]) -> None:
        """Write the averaged weights in FP16, with batch norms measured on these images; training goes on unchanged."""
        norms = [module for module in self.network.modules() if isinstance(module, nn.BatchNorm2d)]
        before = {name: value.clone() for name, value in self.network.state_dict().items()}
        momenta = [norm.momentum for norm in norms]
        for parameter, average in zip(self.parameters, self.average, strict=True):
            parameter.copy_(average)
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches
        for images in batches:
            with _autocast(images):
                self.network(images)
        tensors = self.network.state_dict().items()
        save_file({n: (t.half() if t.is_floating_point() else t).contiguous() for n, t in tensors}, path)
        self.network.load_state_dict(before)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def last_errors(self) -> list[str]:
        """Return the last stage's errors of heatmaps and fields in the last step."""
        return [f"{float(error):.5f}" for error in self._last]


class Batches:
    """Random batches, a fixed part of them from each source."""

    def __init__(self, shares: Sequence[tuple[Resident, int]], side: int, generator: torch.Generator) -> None:
        self.shares, self.side, self.generator = shares, side, generator

    def draw(self) -> Views:
        """Return the next batch, with its images' channels last."""
        parts = [sample_views(data, count, self.side, self.generator) for data, count in self.shares if count]
        images, heatmaps, fields = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("images", "heatmaps", "fields")
        )
        return Views(images.contiguous(memory_format=torch.channels_last), heatmaps, fields)


def train(runs: Sequence[Run], batches: Batches, out: Path, seconds: float) -> None:
    """Train until the time is over, and write weights and curve.csv."""
    begin, step, logged = perf_counter(), 0, -math.inf
    marks = list(SAVED_AT)
    on_gpu = runs[0].parameters[0].is_cuda
    with (out / "curve.csv").open("w") as curve:
        names = [f"{run.spec.name}_{output}" for run in runs for output in ("heatmaps", "pafs")]
        print("step", "seconds", *names, sep=",", file=curve, flush=True)
        while True:
            part = (perf_counter() - begin) / seconds
            if part >= marks[0]:
                seen = [batches.draw().images for _ in range(NORM_BATCHES if on_gpu else 1)]
                for run in runs:
                    run.save(out / f"{run.spec.name}-{round(100 * marks[0])}.safetensors", seen)
                print(f"saved after {100 * marks.pop(0):.0f} % of the time, {step} steps", flush=True)
                if not marks:
                    return
            views = batches.draw()
            for run in runs:
                if step % run.spec.every == 0:
                    run.train(views, part, step // run.spec.every)
            step += 1
            since = perf_counter() - begin
            if step == 1 or (step % LOG_STEPS == 0 and since > logged + LOG_SECONDS):
                errors = [error for run in runs for error in run.last_errors()]  # waits for the GPU
                since = logged = perf_counter() - begin
                print(step, f"{since:.1f}", *errors, sep=",", file=curve, flush=True)
                print(f"step {step}, {step * len(views.images) / since:.0f} views/s", *errors, flush=True)


def main() -> None:
    begin = perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packed", type=Path, nargs="+", help="a.npz and, if it is to be used, b.npz")
    parser.add_argument("--released", type=Path, required=True, help="released weights: the teacher and the start")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and curve")
    parser.add_argument("--nets", type=NetSpec.parse, nargs="+", default=[NetSpec.parse("s:320,96,192,3:2e-3:1")])
    parser.add_argument("--seconds", type=float, default=60, help="in all, loading and the teacher's maps included")
    parser.add_argument("--batch", type=int, default=128, help="views")
    parser.add_argument("--share-b", type=float, default=0.5, help="part of a batch that is of the second file")
    parser.add_argument("--view", type=int, default=320, help="side of a view in pixels, a multiple of 8")
    parser.add_argument("--limit", type=int, help="images of each file; all if left out")
    parser.add_argument("--compile", nargs="*", default=[], metavar="NAME", help="networks that PyTorch compiles")
    options = parser.parse_args()
    if len(options.packed) > len(CANVASES):
        raise OptionError(f"{len(options.packed)} packed files", expected="one or two")
    options.out.mkdir(parents=True, exist_ok=True)

    def log(*what: object) -> None:
        print(f"[{perf_counter() - begin:6.1f} s]", *what, flush=True)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(SEED)
    generator = torch.Generator(device).manual_seed(SEED)
    sources = [
        load(path, canvas, device, options.limit) for path, canvas in zip(options.packed, CANVASES, strict=False)
    ]
    log("images", *(len(source.images) for source in sources))
    released = read_released(options.released).to(device)
    runs = start_runs(options.nets, released, sources[0].images, options.compile)
    log("started from the released weights:", *(run.spec.name for run in runs))
    teacher = to_channels_last(released)
    if device.type == "cuda":
        teacher = teacher.half()
    torch.backends.cudnn.benchmark = False  # five sizes once each: trying algorithms takes longer than it saves
    sources = [replace(source, maps=teacher_maps(source.images, teacher)) for source in sources]
    torch.backends.cudnn.benchmark = True
    if device.type == "cuda":
        torch.cuda.synchronize()
        log("maps of the teacher", torch.cuda.memory_allocated() >> 20, "MiB in all")
    second = int(options.batch * options.share_b) if len(sources) > 1 else 0
    shares = list(zip(sources, (options.batch - second, second), strict=False))
    left = options.seconds - (perf_counter() - begin)
    if left <= 0:
        raise OptionError(
            f"--seconds {options.seconds:g}", expected=f"over the {perf_counter() - begin:.0f} s of loading"
        )
    train(runs, Batches(shares, options.view, generator), options.out, left)
    log("done")


def start_runs(
    specs: Sequence[NetSpec], released: HumanPoseEstimation0001, images: Tensor, compiled: Sequence[str]
) -> list[Run]:
    """Build the networks of the command line from the released one, on its device."""
    # Four small photographs suffice for a test.
    number, side = (48, 320) if images.is_cuda else (4, 160)
    photographs = images[:number, :, :side, :side].float()
    runs = []
    for spec in specs:
        network = FineOpenPose(width=spec.width, features=spec.features, hidden=spec.hidden, blocks=spec.blocks)
        start_from_released(network.to(images.device), released, photographs)
        runs.append(Run(to_channels_last(network.train()), spec, compiled=spec.name in compiled))
    return runs


def to_channels_last(network: Network) -> Network:
    """Lay the filters out as GPUs compute convolutions fastest, in place."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def _autocast(images: Tensor) -> torch.autocast:
    """Compute in bf16 on a GPU."""
    return torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda)


if __name__ == "__main__":
    main()
