"""`FineOpenPose` from the weights of the released network: its most important channels, with batch norms again.

The released network has its batch norms folded into the convolutions, so the scales of its filters differ by orders of
magnitude, and no single learning rate suits them. Batch norms are inserted anew: every convolution is divided by the
standard deviation of its outputs on photographs, and the norm behind it multiplies by the same number. Outputs stay
what they were.

A channel's importance is its mean square on photographs times the squared weights that read it: the power that it
contributes to the next layer. Channels that a residual adds together are kept or dropped together. A convolution whose
inputs were pruned is then refitted by least squares, so that on photographs it computes what it computed before (He et
al. 2017, "Channel Pruning for Accelerating Very Deep Neural Networks", section 3.1).
"""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from network import SUB_PIXELS, ConvNorm, FineOpenPose
from released import conv_at, released_name
from torch import Tensor, nn

from featherpose.errors import ModelError
from featherpose.nn.human_pose_estimation_0001 import HumanPoseEstimation0001

__all__ = ["insert_norms", "least_squares", "start_from_released"]

_Kept = list[int]
"""Channels of the released network, in their order."""

_RIDGE = 1e-3
"""Of the least squares, in mean powers of the inputs: without it, channels that hardly vary get huge weights."""

_DEAD = 1e-3
"""Channels whose outputs deviate less keep their weights: divided by so little, they overflow FP16."""


@torch.no_grad()
def start_from_released(
    network: FineOpenPose, released: HumanPoseEstimation0001, images: Float[Tensor, "B 3 H W"]
) -> None:
    """Copy the released network's most important channels into a network of any width, in place.

    Args:
        network: As wide as the released one or narrower, of the same skeleton; fresh.
        released: The released weights.
        images: BGR photographs, 0..255, on which channels are compared; a dozen is enough.

    Raises:
        ModelError: If the network is wider or has more blocks than the released one.
    """
    start = _Start(network, released, images)
    start.copy()
    hooks = [conv_at(network, name).register_forward_pre_hook(refit) for name, refit in start.refits.items()]
    try:
        insert_norms(network, images)
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def insert_norms(network: nn.Module, images: Float[Tensor, "B 3 H W"]) -> None:
    """Give every batch norm behind a convolution the statistics of these images; outputs stay as they are.

    Args:
        network: Its batch norms are identities but for their shifts.
        images: BGR photographs, 0..255.
    """
    training = network.training
    hooks = [
        pair.conv.register_forward_hook(_Normalize(pair.norm))
        for pair in network.modules()
        if isinstance(pair, ConvNorm)
    ]
    try:
        network.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
        network.train(training)


def least_squares(inputs: Float[Tensor, "N C"], wanted: Float[Tensor, "N *D"], ridge: float) -> Float[Tensor, "C1 *D"]:
    """Return the weights of the inputs, and last the shift, that give what is wanted with the least squared error.

    Args:
        inputs: One row a cell.
        wanted: The same rows.
        ridge: Penalty on large weights, in mean powers of the inputs.
    """
    rows = torch.cat((inputs, torch.ones_like(inputs[:, :1])), 1)
    gram = rows.T @ rows
    gram.diagonal().add_(ridge * gram.diagonal().mean())
    solution: Tensor = torch.linalg.solve(gram, rows.T @ wanted)
    return solution


class _Normalize:
    """A hook behind a convolution that gives the batch norm which follows the statistics of the outputs."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        self.norm = norm

    def __call__(self, conv: nn.Conv2d, _: object, outputs: Tensor) -> Tensor:
        norm, axes = self.norm, (0, 2, 3)
        deviation = outputs.float().std(axes)
        is_dead = deviation < _DEAD
        divisor = torch.where(is_dead, 1.0, deviation).to(outputs.dtype)
        conv.weight /= divisor[:, None, None, None]
        scaled = outputs / divisor[None, :, None, None]
        mean = scaled.float().mean(axes)
        variance = torch.where(is_dead, deviation**2, 1.0)
        norm.running_mean, norm.running_var = mean, variance
        # A norm divides by the root of variance and eps. In the live channels, whose variance is 1, eps is nothing.
        norm.weight.mul_(torch.where(is_dead, (variance + norm.eps).sqrt(), divisor))
        norm.bias.add_(mean * divisor)
        return scaled


class _Refit:
    """A hook before a convolution that lets it compute from its present inputs what it computed from all channels."""

    def __init__(self, wanted: Tensor, shift: Tensor) -> None:
        self.wanted = wanted  # [B, C, h, w] with the shift
        self.shift = shift  # what is added behind the convolution

    def __call__(self, conv: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        # Every padding keeps the size here.
        padding = conv.dilation[0] * (conv.kernel_size[0] // 2)
        patches = nn.functional.unfold(inputs[0], conv.kernel_size, conv.dilation, padding)
        patches = patches.transpose(1, 2).reshape(-1, patches.shape[1]).double()
        before = conv.weight.flatten(1).double()
        residual = self.wanted.transpose(0, 1).flatten(1).T.double() - self.shift.double() - patches @ before.T
        change = least_squares(patches, residual, _RIDGE).T
        conv.weight.copy_((before + change[:, :-1]).reshape(conv.weight.shape))
        self.shift += change[:, -1].to(self.shift.dtype)


class _Start:
    """Which channels of the released network each layer keeps, and the copies."""

    def __init__(self, network: FineOpenPose, released: HumanPoseEstimation0001, images: Tensor) -> None:
        self.network = network
        self.released = released.eval()
        blocks = len(network.refinement)
        conv_at(released, released_name(f"refinement.{blocks - 1}.reduce"))  # an error where there are fewer
        self.power, self.results = _measure(self.released, images)
        self.refits: dict[str, _Refit] = {}

    def copy(self) -> None:
        """Copy all layers in the order of the data."""
        network = self.network
        # Nothing in front of the first blocks is pruned, so there is nothing to refit.
        kept = self._layer("stem", [*range(3)], [*range(network.stem.conv.out_channels)], refit=False)
        blocks = len(network.backbone)
        for i in range(blocks):
            reader = f"backbone.{i + 1}.pointwise" if i + 1 < blocks else "neck.align"
            after = self._best(f"backbone.{i}.pointwise", reader)
            kept = self._separable(f"backbone.{i}", kept, after, refit=i > 0)
        features = self._neck(kept)
        kept = features
        layers = len(network.initial)
        for i in range(layers):
            readers = (f"initial.{i + 1}",) if i + 1 < layers else _heads("initial_heads")
            kept = self._layer(f"initial.{i}", kept, self._best(f"initial.{i}", *readers))
        self._branches("initial_heads", kept, 1)
        # The released refinement stage reads fields, heatmaps with the background, features.
        maps = network.heads.pafs.out_channels + network.skeleton.num_keypoints
        kept = [*range(maps), *(maps + 1 + channel for channel in features)]
        blocks = len(network.refinement)
        for i in range(blocks):
            block = f"refinement.{i}"
            readers = (f"refinement.{i + 1}.reduce",) if i + 1 < blocks else _heads("heads")
            after = self._best(f"{block}.reduce", *readers, f"{block}.first")
            self._layer(f"{block}.reduce", kept, after)
            inner = self._layer(f"{block}.first", after, self._best(f"{block}.first", f"{block}.second"))
            kept = self._layer(f"{block}.second", inner, after)
        self._branches("heads", kept, SUB_PIXELS**2)

    def _neck(self, before: _Kept) -> _Kept:
        aligned = self._best("neck.align", "neck.join", "neck.mix")
        self._layer("neck.align", before, aligned)
        kept = self._layer("neck.mix", aligned, self._best("neck.mix", "neck.blocks.0.pointwise"))
        blocks = len(self.network.neck.blocks)
        for i in range(blocks):
            name = f"neck.blocks.{i}"
            # The last block is added to the aligned features.
            last = i + 1 == blocks
            after = aligned if last else self._best(f"{name}.pointwise", f"neck.blocks.{i + 1}.pointwise")
            kept = self._separable(name, kept, after)
        joined = self._best("neck.join", "initial.0")
        self._layer("neck.join", aligned, joined)
        return joined

    def _branches(self, stage: str, before: _Kept, cells: int) -> None:
        """Copy the heads of a stage; the heatmaps' last layer once for each of the cells that share a place."""
        for branch, count, repeat in (
            ("heatmaps", self.network.skeleton.num_keypoints, cells),
            ("pafs", 2 * self.network.skeleton.num_limbs, 1),
        ):
            name = f"{stage}.{branch}"
            kept = self._layer(f"{name}_hidden", before, self._best(f"{name}_hidden", name))
            old, new = self._old(name), conv_at(self.network, name)
            new.weight.copy_(old.weight[:count][:, kept].repeat_interleave(repeat, 0))
            _bias(new).copy_(_bias(old)[:count].repeat_interleave(repeat, 0))
            wanted = self.results[released_name(name)][:, :count].repeat_interleave(repeat, 1)
            self.refits[name] = _Refit(wanted, _bias(new))

    def _separable(self, name: str, before: _Kept, after: _Kept, *, refit: bool = True) -> _Kept:
        old, new = self._old(f"{name}.depthwise"), self._pair(f"{name}.depthwise")
        new.conv.weight.copy_(old.weight[before])
        new.norm.bias.copy_(_bias(old)[before])
        return self._layer(f"{name}.pointwise", before, after, refit=refit)

    def _layer(self, name: str, before: _Kept, after: _Kept, *, refit: bool = True) -> _Kept:
        """Copy a dense convolution that reads and writes these channels; return what it writes."""
        old, new = self._old(name), self._pair(name)
        new.conv.weight.copy_(old.weight[after][:, before])
        new.norm.bias.copy_(_bias(old)[after])
        if refit:
            self.refits[f"{name}.conv"] = _Refit(self.results[released_name(name)][:, after], new.norm.bias)
        return after

    def _best(self, name: str, *readers: str) -> _Kept:
        """Choose the channels of a layer that its readers depend on most, in their order."""
        count, channels = self._pair(name).conv.out_channels, self._old(name).out_channels
        if count > channels:
            raise ModelError(f"{name} has {count} channels", expected=f"at most the released network's {channels}")
        importance = torch.stack([self.power[released_name(reader)][-channels:] for reader in readers]).sum(0)
        return sorted(torch.topk(importance, count).indices.tolist())

    def _old(self, name: str) -> nn.Conv2d:
        return conv_at(self.released, released_name(name))

    def _pair(self, name: str) -> ConvNorm:
        pair = self.network.get_submodule(name)
        if not isinstance(pair, ConvNorm):
            raise ModelError(f"{name} has no batch norm")
        return pair


def _heads(stage: str) -> tuple[str, str]:
    """Name the layers that read a stage's trunk."""
    return f"{stage}.heatmaps_hidden", f"{stage}.pafs_hidden"


def _bias(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        raise ModelError("a convolution of the released network, or a head, has no bias")
    return conv.bias


def _measure(network: nn.Module, images: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Measure the power that each input channel contributes to each dense convolution, and keep the results."""
    power: dict[str, Tensor] = {}
    results: dict[str, Tensor] = {}

    def measure(name: str, conv: nn.Conv2d, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        square = inputs[0].float().square().mean((0, 2, 3))
        power[name] = square * conv.weight.float().square().sum((0, 2, 3))
        results[name] = outputs.clone()  # the activation behind it may work in place

    hooks = [
        conv.register_forward_hook(partial(measure, name))
        for name, conv in network.named_modules()
        if isinstance(conv, nn.Conv2d) and conv.groups == 1
    ]
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return power, results
