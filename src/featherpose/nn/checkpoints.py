"""Network weights on disk: recognized by their tensors, read without unpickling code, written atomically.

Two forms are read: ``.safetensors`` with or without facts in its header, and PyTorch files (``.pth``, ``.pt``,
``.ckpt``) whose tensors stand at the top or under ``state_dict``, ``average`` or ``network``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from featherpose.errors import CheckpointError, FeatherposeError, OutputError, SkeletonError
from featherpose.nn.compress import compress, decompress
from featherpose.nn.human_pose_estimation_0001 import rename_released
from featherpose.nn.networks import NETWORK_NAMES, NETWORKS, as_module, network_factory
from featherpose.nn.outputs import PoseNetwork
from featherpose.parsing import Limits, ParseError, is_file, parse_json
from featherpose.skeleton import OPENPOSE_18, Skeleton, builtin_skeletons

__all__ = ["Checkpoint", "load_network", "load_tensors", "load_values", "read_checkpoint", "reader_message",
           "save_network"]  # fmt: skip

_NETWORK_KEY, _SKELETON_KEY = "network", "skeleton"

# Backbones by the channels that reach the first layer behind them.
_BACKBONES = {256: "mobilenet-v1-conv4_1", 512: "mobilenet-v1-conv5_5", 1024: "mobilenet-v1-conv5_6",
              320: "mobilenet-v2-conv6_3"}  # fmt: skip


# At least eight bits a weight are stored; the rest is a margin for shared tensors.
_MAX_EXPANSION = 16
_MAX_STAGES, _MAX_CHANNELS = 64, 8192


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Tensors of a network and the facts stated in the file.

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
        """Name the network of these tensors, as `create_network` takes it.

        Raises:
            CheckpointError: If they are of an unknown network.
        """
        if (stated := self.facts.get(_NETWORK_KEY, "")) in NETWORK_NAMES:
            return stated
        names = self.tensors.keys()
        for factory in NETWORKS:
            if factory.kind.MARK and factory.kind.MARK in names:
                return factory.name
        if "backbone.conv1_1.weight" in names:
            return "openpose"
        for first, family in (("cpm.align.0.weight", "lightweight"), ("conv4_3.0.weight", "openpose")):
            if first in names and (backbone := _BACKBONES.get(sum(self.tensors[first].shape[1:2]))):
                name = f"{family}-{backbone}"
                return "lightweight-openpose" if name == "lightweight-mobilenet-v1-conv5_5" else name
        some = ", ".join(list(names)[:3]) or "nothing"
        raise CheckpointError(
            f"{self.path} holds {some}, the weights of another network", expected=f"one of {', '.join(NETWORK_NAMES)}"
        )

    def skeleton(self) -> Skeleton:
        """Return the skeleton that the file states, or the built-in one with as many keypoints and limbs.

        Raises:
            CheckpointError: If there is neither.
        """
        if stated := self.facts.get(_SKELETON_KEY):
            if stated in builtin_skeletons():
                return builtin_skeletons()[stated]
            try:
                fields = parse_json(stated, Limits())
                if isinstance(fields, dict) and "redundant_limbs" in fields:
                    fields["loop_limbs"] = fields.pop("redundant_limbs")  # the name of it in older checkpoints
                return Skeleton.from_dict(fields)
            except (ParseError, SkeletonError) as error:
                raise CheckpointError(f"{self.path} states a skeleton that is none ({error})") from error
        keypoints, limbs = self._counts()
        fitting = [
            s for s in builtin_skeletons().values() if s.num_keypoints == keypoints and limbs in (None, s.num_limbs)
        ]
        if len(fitting) != 1:
            and_limbs = "" if limbs is None else f" and {limbs} limbs"
            raise CheckpointError(
                f"{self.path} does not state which {keypoints} keypoints{and_limbs} it has",
                hint="name the skeleton (--skeleton)",
            )
        return fitting[0]

    def _counts(self) -> tuple[int, int | None]:
        """Return (K, L) by the widths of the last layers."""
        for factory in NETWORKS:
            if counts := factory.kind.counts_of(self.tensors):
                return counts
        return OPENPOSE_18.num_keypoints, OPENPOSE_18.num_limbs


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the tensors of a file.

    Raises:
        CheckpointError: If the file is missing, truncated, damaged, holds no tensors, or values that are not finite.
    """
    path = Path(path)
    if not is_file(path):
        raise CheckpointError(f"there is no checkpoint {path}", expected="a .safetensors, .pth or .pt file")
    facts: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    try:
        if path.suffix.lower() == ".safetensors":
            with safe_open(path, framework="pt") as file:
                facts = dict(file.metadata() or {})
                tensors = decompress({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - not a dict
        else:
            tensors = _tensors_in(load_values(path))
    except Exception as error:
        # torch raises whatever its reader met: EOFError, RuntimeError, UnpicklingError, KeyError ...
        raise CheckpointError(
            f"{path} is truncated, damaged or no checkpoint ({reader_message(error)})", hint="get the file again"
        ) from error
    if not tensors:
        raise CheckpointError(f"{path} holds no weights", expected="tensors by name, or a dict with 'state_dict'")
    # A strided tensor may declare more values than its file holds, and would be expanded by the first conversion.
    claimed, held = sum(tensor.numel() for tensor in tensors.values()), path.stat().st_size
    if claimed > _MAX_EXPANSION * held:
        raise CheckpointError(f"{path} claims {claimed} weights in {held} bytes", hint="get the file again")
    named = {}
    is_released = "stem.weight" in tensors and "cpm_out.weight" in tensors
    for name, tensor in tensors.items():
        # Networks trained on several devices carry the prefix.
        own = rename_released(name) if is_released else name.removeprefix("module.")
        named[own] = tensor.float() if tensor.is_floating_point() else tensor
        if not torch.isfinite(named[own]).all():
            raise CheckpointError(
                f"{path} holds values in {own} that are infinite or no numbers", hint="take an earlier checkpoint"
            )
    return Checkpoint(path, named, facts)


def load_values(path: Path) -> Any:
    """Read what ``torch.save`` wrote, if it is tensors and plain values; no code in the file is run.

    Raises:
        Exception: Whatever PyTorch's reader raised; `reader_message` shortens it to a clause.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns of files of other writers; what is wrong with them is raised
        return torch.load(path, map_location="cpu", weights_only=True)


def reader_message(error: Exception) -> str:
    """Shorten a message of PyTorch's or safetensors' reader to its first clause.

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
    """Load all tensors of a checkpoint into a network, by name and shape.

    Raises:
        CheckpointError: If one is missing, too many or of another shape; the network is then unchanged.
    """
    module = as_module(network)
    own, given = module.state_dict(), checkpoint.tensors
    # Batch norms count their batches; old checkpoints lack the count, and nothing depends on it.
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
    """Build the network of a checkpoint, with its weights, ready for inference.

    Args:
        path: The checkpoint.
        name: The network, if it is known; recognized unless given.
        skeleton: The skeleton, if it is known; as stated in the file or recognized unless given.

    Raises:
        CheckpointError: If the file cannot be read or is of another network.
        OptionError: If there is no network of that name.
    """
    checkpoint = read_checkpoint(path)
    name = name or checkpoint.network
    skeleton = skeleton or checkpoint.skeleton()
    try:
        factory = network_factory(name)
        options = factory.kind.options_of(checkpoint.tensors)
        _check_sizes(path, options)
        network = factory.create(skeleton, **options)
    except (TypeError, IndexError, ValueError, RuntimeError) as error:
        if isinstance(error, FeatherposeError):
            raise
        # Tensors of impossible shapes, such as a convolution without axes.
        raise CheckpointError(f"{path} is not of network {name} ({reader_message(error)})") from error
    load_tensors(network, checkpoint)
    as_module(network).eval()
    return network


def _check_sizes(path: Path, options: Mapping[str, Any]) -> None:
    """Reject a network of impossible size before it is built."""
    for name, value in options.items():
        nested = dataclasses.is_dataclass(value) and not isinstance(value, type)
        sizes = dataclasses.asdict(value).values() if nested else (value,)
        most = _MAX_STAGES if name in ("blocks", "refinements") else _MAX_CHANNELS
        if any(isinstance(size, int) and size > most for size in sizes):
            raise CheckpointError(f"{path} is of a network with {name} {value}", expected=f"at most {most}")


def save_network(
    path: Path, network: PoseNetwork, name: str, *, facts: Mapping[str, str] | None = None, compact: bool = False
) -> None:
    """Write a network's tensors as safetensors, with its name and skeleton for `load_network`.

    Args:
        path: The file; an older one of that name is replaced only by a whole one.
        network: The network.
        name: Its name, as `create_network` takes it.
        facts: More text for the header.
        compact: Whether large layers are stored in 8 bits and the rest in 16, see `featherpose.nn.compress`.

    Raises:
        OutputError: If the file cannot be written.
    """
    tensors = {n: t.detach().cpu().contiguous().clone() for n, t in as_module(network).state_dict().items()}
    if compact:
        tensors = compress(tensors)
    header = {**(facts or {}), _NETWORK_KEY: name, _SKELETON_KEY: json.dumps(network.skeleton.to_dict())}
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # As bytes: files of safetensors' own writer are readable by their owner only.
        part.write_bytes(save(tensors, header))
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{path} cannot be written ({error})", hint="an earlier file of that name is intact"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
