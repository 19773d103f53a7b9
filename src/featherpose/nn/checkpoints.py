"""Network weights on disk: recognised by what they hold, read without unpickling code, written whole or not at all.

Two forms are read: ``.safetensors`` with or without our facts in its header, and PyTorch files (``.pth``, ``.pt``,
``.ckpt``) whose tensors stand at the top or under ``state_dict``, ``average`` or ``network``.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from featherpose.errors import CheckpointError, OutputError, SkeletonError
from featherpose.nn.compact import compacted, restored
from featherpose.nn.feather import Feather
from featherpose.nn.feather_front import FrontShape
from featherpose.nn.networks import NETWORK_NAMES, as_module, create_network
from featherpose.nn.outputs import PoseNetwork
from featherpose.nn.released import rename_released
from featherpose.skeleton import OPENPOSE_18, Skeleton, builtin_skeletons

__all__ = ["Checkpoint", "load_network", "load_tensors", "load_values", "read_checkpoint", "reader_message",
           "save_network"]  # fmt: skip

_NETWORK_KEY, _SKELETON_KEY = "network", "skeleton"

# Backbones by the channels that reach the first layer behind them.
_BACKBONES = {256: "mobilenet-v1-conv4_1", 512: "mobilenet-v1-conv5_5", 1024: "mobilenet-v1-conv5_6",
              320: "mobilenet-v2-conv6_3"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Tensors of a network, and what the file says about it.

    Attributes:
        path: Where it came from.
        tensors: Name to tensor, float32, by the names of our networks.
        facts: Text facts of a safetensors header.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, str]

    @property
    def network(self) -> str:
        """Name of the network that these tensors are of, as `create_network` takes it.

        Raises:
            CheckpointError: If they are of no network of ours.
        """
        if (stated := self.facts.get(_NETWORK_KEY, "")) in NETWORK_NAMES:
            return stated
        names = self.tensors.keys()
        if "pyramid.top.weight" in names:
            return "feather"
        if "cpm.mix.0.weight" in names:
            return "human-pose-estimation-0001"
        if "backbone.conv1_1.weight" in names:
            return "openpose"
        for first, family in (("cpm.align.0.weight", "lightweight"), ("conv4_3.0.weight", "openpose")):
            if first in names and (backbone := _BACKBONES.get(self.tensors[first].shape[1])):
                name = f"{family}-{backbone}"
                return "lightweight-openpose" if name == "lightweight-mobilenet-v1-conv5_5" else name
        some = ", ".join(list(names)[:3]) or "nothing"
        raise CheckpointError(
            f"{self.path} holds {some}, the weights of another network", expected=f"one of {', '.join(NETWORK_NAMES)}"
        )

    @property
    def refinements(self) -> int:
        """Refinement stages among the tensors."""
        stages = (re.match(r"refinement_stages\.(\d+)\.", name) for name in self.tensors)
        return len({match[1] for match in stages if match})

    def skeleton(self) -> Skeleton:
        """The skeleton that the file states, or the built-in one whose keypoints and limbs its outputs count.

        Raises:
            CheckpointError: If there is neither.
        """
        if stated := self.facts.get(_SKELETON_KEY):
            try:
                return builtin_skeletons().get(stated) or Skeleton.from_dict(json.loads(stated))
            except (ValueError, TypeError, SkeletonError) as error:
                raise CheckpointError(f"{self.path} states a skeleton that is none ({error})") from error
        keypoints, limbs = self._counts()
        fitting = [s for s in builtin_skeletons().values() if (s.num_keypoints, s.num_limbs) == (keypoints, limbs)]
        if len(fitting) != 1:
            raise CheckpointError(
                f"{self.path} does not say what its {keypoints} keypoints and {limbs} limbs are",
                hint="name the skeleton (--skeleton)",
            )
        return fitting[0]

    def _counts(self) -> tuple[int, int]:
        """(K, L) by the widths of the last layers."""
        for heatmaps, pafs, background in (
            ("keypoints.out.weight", "pafs.out.weight", 0),
            ("initial_stage.heatmaps.1.0.weight", "initial_stage.pafs.1.0.weight", 1),
            ("initial_stage.heatmaps.4.0.weight", "initial_stage.pafs.4.0.weight", 1),
        ):
            if heatmaps in self.tensors and pafs in self.tensors:
                return self.tensors[heatmaps].shape[0] - background, self.tensors[pafs].shape[0] // 2
        return OPENPOSE_18.num_keypoints, OPENPOSE_18.num_limbs


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the tensors of a file.

    Raises:
        CheckpointError: If the file is missing, truncated, damaged or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}", expected="a .safetensors, .pth or .pt file")
    facts: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    try:
        if path.suffix.lower() == ".safetensors":
            with safe_open(path, framework="pt") as file:
                facts = dict(file.metadata() or {})
                tensors = restored({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - not a dict
        else:
            tensors = _tensors_in(load_values(path))
    except Exception as error:
        # torch raises whatever its reader met: EOFError, RuntimeError, UnpicklingError, KeyError ...
        raise CheckpointError(
            f"{path} is truncated, damaged or no checkpoint ({reader_message(error)})", hint="get the file again"
        ) from error
    if not tensors:
        raise CheckpointError(f"{path} holds no weights", expected="tensors by name, or a dict with 'state_dict'")
    named = {}
    is_released = "stem.weight" in tensors and "cpm_out.weight" in tensors
    for name, tensor in tensors.items():
        # Networks trained on several devices carry the prefix.
        own = rename_released(name) if is_released else name.removeprefix("module.")
        named[own] = tensor.float() if tensor.is_floating_point() else tensor
    return Checkpoint(path, named, facts)


def load_values(path: Path) -> Any:
    """What ``torch.save`` wrote, if that is tensors and plain values; nothing in the file is run.

    Raises:
        Exception: Whatever PyTorch's reader met; `reader_message` says it in a clause.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files of other writers are warned of; what is wrong with them is raised
        return torch.load(path, map_location="cpu", weights_only=True)


def reader_message(error: Exception) -> str:
    """What PyTorch's and safetensors' readers say, without their advice to programmers.

    Example:
        >>> reader_message(RuntimeError("failed finding central directory. If you are a developer ..."))
        'failed finding central directory'
    """
    if isinstance(error, pickle.UnpicklingError):
        return "it holds something else than tensors and plain values"
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.partition(". ")[0].rstrip(".")[:120]


def _tensors_in(data: Any) -> dict[str, Tensor]:
    if isinstance(data, Mapping):
        for key in ("average", "state_dict", "network"):
            inner = data.get(key)
            if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
                return _tensors_in(inner)
        return {str(name): value for name, value in data.items() if isinstance(value, Tensor)}
    return {}


def load_tensors(network: PoseNetwork, checkpoint: Checkpoint) -> None:
    """Give a network the tensors of a checkpoint: all of them, by name and shape.

    Raises:
        CheckpointError: If one is missing, too many or of another shape; the network is then unchanged.
    """
    module = as_module(network)
    own, given = module.state_dict(), checkpoint.tensors
    # Batch norms count their batches; old checkpoints do not carry the count, and nothing depends on it.
    missing = [name for name in own if name not in given and not name.endswith("num_batches_tracked")]
    unknown = [name for name in given if name not in own]
    shapes = [name for name in own if name in given and own[name].shape != given[name].shape]
    what = type(network).__name__
    if missing or unknown:
        lacks = f"lacks {len(missing)} of its {len(own)} tensors (first: {missing[0]})" if missing else ""
        extra = f"has {len(unknown)} unknown ones (first: {unknown[0]})" if unknown else ""
        raise CheckpointError(
            f"{checkpoint.path} is of another network than {what}: it {' and '.join(filter(None, (lacks, extra)))}",
            hint="name the network that it was saved from",
        )
    if shapes:
        name = shapes[0]
        raise CheckpointError(
            f"{checkpoint.path} has {name} of shape {tuple(given[name].shape)}",
            expected=f"{tuple(own[name].shape)} for skeleton {network.skeleton.name!r}",
            hint="name the skeleton that it was trained with",
        )
    module.load_state_dict(dict(given), strict=False)


def load_network(path: Path, *, name: str | None = None, skeleton: Skeleton | None = None) -> PoseNetwork:
    """Build the network that a checkpoint is of, with its weights, ready for inference.

    Args:
        path: The checkpoint.
        name: The network, if it is known; recognised unless given.
        skeleton: The skeleton, if it is known; as stated in the file or recognised unless given.

    Raises:
        CheckpointError: If the file cannot be read or is of another network.
        OptionError: If there is no network of that name.
    """
    checkpoint = read_checkpoint(path)
    name = name or checkpoint.network
    skeleton = skeleton or checkpoint.skeleton()
    network: PoseNetwork
    if name == "feather" and "pafs.out.weight" in checkpoint.tensors:
        blocks = {match[1] for n in checkpoint.tensors if (match := re.match(r"pafs\.blocks8\.(\d+)\.", n))}
        tensors = checkpoint.tensors
        layers = {"stem": "stem", "first": "first.expand", "block": "block.expand", "entry": "entry.expand"}
        widths = {part: tensors.get(f"front.{layer}.weight") for part, layer in layers.items()}
        front = FrontShape(**{part: len(weight) for part, weight in widths.items() if weight is not None})
        network = Feather(skeleton, channels=tensors["pafs.out.weight"].shape[1], blocks=len(blocks), front=front)
    else:
        network = create_network(name, skeleton, refinements=None if name == "feather" else checkpoint.refinements)
    load_tensors(network, checkpoint)
    as_module(network).eval()
    return network


def save_network(
    path: Path, network: PoseNetwork, name: str, *, facts: Mapping[str, str] | None = None, compact: bool = False
) -> None:
    """Write a network's tensors as safetensors with what `load_network` needs to know of it.

    Args:
        path: The file; an older one of that name is replaced only by a whole one.
        network: The network.
        name: Its name, as `create_network` takes it.
        facts: More text for the header.
        compact: Whether large layers are stored in 8 bits and the rest in 16, see `featherpose.nn.compact`.

    Raises:
        OutputError: If the file cannot be written.
    """
    tensors = {n: t.detach().cpu().contiguous().clone() for n, t in as_module(network).state_dict().items()}
    if compact:
        tensors = compacted(tensors)
    header = {**(facts or {}), _NETWORK_KEY: name, _SKELETON_KEY: json.dumps(network.skeleton.to_dict())}
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # As bytes: safetensors' own writer makes files that nobody else may read.
        part.write_bytes(save(tensors, header))
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{path} cannot be written ({error})", hint="an earlier file of that name is intact"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
