"""Distillation of a teacher's inner features, beside or instead of its outputs (Romero et al. 2015, "FitNets", 2.2).

A part of the network learns to reproduce the output of a part of a frozen network on the same image. No labels are
needed, and every cell of every channel is a target: a narrower front learns to reproduce a wide one in minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.errors import ConfigError
from featherpose.nn.checkpoints import load_network
from featherpose.nn.movenet import read_movenet
from featherpose.nn.networks import as_module
from featherpose.training.config import FeatureDistillationConfig

__all__ = ["FeatureDistillation"]

# Images of this side reveal how many channels each part has.
_PROBE_PX = 64


class FeatureDistillation(nn.Module):
    """Compares features of a network with a teacher's, by forward hooks.

    Where numbers of channels differ, a 1x1 convolution is trained between them; where they are equal the features
    themselves must agree.

    Args:
        config: The teacher and the pairs of parts.
        student: The network that is trained.

    Raises:
        ConfigError: If a part does not exist or its output is no map.
        CheckpointError: If the teacher cannot be loaded.
        ModelError: If the teacher is a damaged public file.

    Example:
        >>> from featherpose.nn.checkpoints import save_network
        >>> from featherpose.nn.feather import Feather
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = Path(folder.name) / "teacher.safetensors"
        >>> student = Feather(channels=16, blocks=1)
        >>> save_network(path, student, "feather")
        >>> distance = FeatureDistillation(
        ...     FeatureDistillationConfig(model=str(path), pairs=(("front.entry", "front.entry"),)), student
        ... )
        >>> images = torch.rand(1, 3, 64, 64) * 255
        >>> _ = student(images)
        >>> distance(images).item() < 1e-4  # the student still equals its teacher, but for half precision
        True
        >>> folder.cleanup()
    """

    def __init__(self, config: FeatureDistillationConfig, student: nn.Module) -> None:
        super().__init__()
        # In a list, so that the teacher is not a submodule: it is not trained, saved or counted.
        self._teacher = [_load(Path(config.model))]
        self._student_features: dict[str, Tensor] = {}
        self._teacher_features: dict[str, Tensor] = {}
        self._pairs = config.pairs
        for own, other in config.pairs:
            _observe(student, own, self._student_features, "the network")
            _observe(self._teacher[0], other, self._teacher_features, "the teacher")
        self.projections = nn.ModuleList()
        with torch.no_grad():
            probe = torch.zeros(1, 3, _PROBE_PX, _PROBE_PX, device=next(student.parameters()).device)
            self._teacher[0].to(probe.device)
            was_training = student.training
            student.eval()(probe)
            student.train(was_training)
            self._teacher[0](probe)
        for own, other in config.pairs:
            mine, theirs = self._student_features[own].shape[1], self._teacher_features[other].shape[1]
            self.projections.append(nn.Identity() if mine == theirs else nn.Conv2d(mine, theirs, 1))
        self.to(probe.device)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, ""]:
        """Compute the mean squared distance from the teacher, in units of each channel's spread. Call it last."""
        with torch.no_grad():
            self._teacher[0](images)
        total = torch.zeros((), device=images.device)
        for projection, (own, other) in zip(self.projections, self._pairs, strict=True):
            target, ours = self._teacher_features[other].float(), projection(self._student_features[own]).float()
            if ours.shape[2:] != target.shape[2:]:
                target = F.interpolate(target, ours.shape[2:], mode="bilinear", align_corners=False)
            spread = target.std((0, 2, 3), keepdim=True).clamp_min(1e-3)
            total = total + ((ours - target) / spread).square().mean()
        return total / len(self._pairs)


def _load(path: Path) -> nn.Module:
    teacher = read_movenet(path) if path.suffix == ".tflite" else as_module(load_network(path))
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    return teacher.eval()


def _observe(network: nn.Module, name: str, kept: dict[str, Tensor], whose: str) -> None:
    parts = dict(network.named_modules())
    if name not in parts or not name:
        parents = sorted({n.rsplit(".", 1)[0] for n in parts if n.startswith(name.split(".")[0])} - {""})
        raise ConfigError(
            f"[feature_distillation] {whose} has no part {name!r}",
            expected=f"such as {', '.join(parents[:5] or sorted(parts)[1:6])}",
        )
    parts[name].register_forward_hook(_recorder(name, kept, whose))


def _recorder(name: str, kept: dict[str, Tensor], whose: str) -> Callable[[nn.Module, object, object], None]:
    def keep(_: nn.Module, __: object, output: object) -> None:
        if not isinstance(output, Tensor) or output.dim() != 4:
            raise ConfigError(f"[feature_distillation] {name!r} of {whose} gives no map", expected="a layer or block")
        kept[name] = output

    return keep
