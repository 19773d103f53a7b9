"""The network of a configuration with its initial weights."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from featherpose import zoo
from featherpose.data.labeled_pixels import read_image
from featherpose.errors import CheckpointError, MissingExtraError, OptionError
from featherpose.nn.checkpoints import Checkpoint, read_checkpoint
from featherpose.nn.networks import as_module, network_factory
from featherpose.nn.outputs import PoseNetwork
from featherpose.skeleton import Skeleton
from featherpose.training.config import NetworkConfig

__all__ = ["build_network", "bundled_weights", "evaluating", "freeze_batch_norm_stats", "load_matching"]

_log = logging.getLogger(__name__)

_FITTING_IMAGES, _FITTING_HEIGHT_PX = 16, 256


def build_network(
    config: NetworkConfig, skeleton: Skeleton, images: Sequence[Path] = (), *, equalize: bool = False
) -> PoseNetwork:
    """Build the network with its initial weights; frozen parameters take no gradient.

    Args:
        config: Network and initial weights.
        skeleton: Keypoints and limbs of its outputs.
        images: Photographs, for layers that are fitted on a few of them.
        equalize: Whether channels get equal ranges on those photographs, as INT8 needs, where the network can.

    Raises:
        OptionError: If the network has no such option.
        ModelError: If the public file is damaged.
        CheckpointError: If the checkpoint is damaged or of another network.
    """
    factory, start = network_factory(config.arch), Path(config.init_from)
    if config.init_from == "bundled":
        start = bundled_weights(factory.kind.START)
    public = None
    if config.init_from:
        public = factory.kind.from_published(start, lambda: _some_of(images), skeleton, **config.options)
    network = cast(PoseNetwork | None, public)
    if network is None:
        checkpoint = read_checkpoint(start) if config.init_from else None
        known = {} if checkpoint is None else factory.kind.options_of(checkpoint.tensors)
        same = {name: value for name, value in known.items() if name in factory.kind.FROM_WEIGHTS}
        network = factory.create(skeleton, **{**same, **config.options})
        if checkpoint is not None:
            load_matching(network, checkpoint)
    if equalize:
        with contextlib.suppress(OptionError):  # INT8 loses more accuracy without it, and works
            network.equalize(_some_of(images))
    for name, parameter in as_module(network).named_parameters():
        parameter.requires_grad_(not any(name.startswith(start) for start in config.freeze))
    return network


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Switch a network to evaluation mode for a block; afterwards every layer is in its own mode again."""
    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def freeze_batch_norm_stats(network: nn.Module) -> None:
    """Keep the statistics of batch norms whose parameters are frozen, so that frozen layers do not change."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            parameters = list(module.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()


def _some_of(images: Sequence[Path]) -> list[Float[Tensor, "1 3 H W"]]:
    chosen = images[:: max(1, len(images) // _FITTING_IMAGES)][:_FITTING_IMAGES]
    return [_fitted(read_image(path)) for path in chosen]


def _fitted(image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "1 3 H W"]:
    height, width = image.shape[:2]
    size = (_FITTING_HEIGHT_PX, max(32, round(width * _FITTING_HEIGHT_PX / height / 32) * 32))
    small = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small).permute(2, 0, 1)[None].float()


def bundled_weights(family: str = "feather") -> Path:
    """Return the FP16 weights of the bundled network, or of the single-person one, the newest by name.

    They lie in the package ``featherpose-weights``; in a checkout they are found without it being installed.

    Args:
        family: How the files' names begin.

    Raises:
        MissingExtraError: If this installation has none.
    """
    installed = importlib.util.find_spec("featherpose_weights")
    folders = [Path(folder) for folder in (installed and installed.submodule_search_locations) or ()]
    checkout = Path(zoo.__file__).parents[3]
    folders.append(checkout / "packages/featherpose-weights/src/featherpose_weights")
    for folder in folders:
        if found := sorted(folder.glob(f"{family}*.safetensors")):
            return found[-1]
    raise MissingExtraError(f"Starting from the weights of {family}", "weights")


def load_matching(network: PoseNetwork, checkpoint: Checkpoint) -> None:
    """Load all tensors that fit; rows of output layers are matched by keypoint and limb names of both skeletons.

    Raises:
        CheckpointError: If fewer than half of the network's tensors fit, and not all of its trunk.
    """
    module, known, wanted = as_module(network), checkpoint.skeleton(), network.skeleton
    stated = getattr(module, "STATED", ())
    own = {name: value for name, value in module.state_dict().items() if name not in stated}
    loaded: dict[str, Tensor] = {}
    for name, value in checkpoint.tensors.items():
        if name not in own or own[name].shape[1:] != value.shape[1:]:
            continue
        rows = _rows_between(network, known, len(value), len(own[name])) if value.dim() and known != wanted else None
        if rows is not None:
            fresh = own[name].clone()
            for row, origin in enumerate(rows):
                if origin >= 0:
                    fresh[row] = value[origin]
            loaded[name] = fresh
        elif own[name].shape == value.shape:
            loaded[name] = value
    # A new head may have more tensors than the trunk that it stands on.
    trunk = tuple(f"{part}." for split in network.splits()[:1] for part in split.parts)
    has_trunk = bool(trunk) and all(name in loaded for name in own if name.startswith(trunk))
    if len(loaded) * 2 < len(own) and not has_trunk:
        raise CheckpointError(
            f"{checkpoint.path} fits {len(loaded)} of {len(own)} tensors of {type(network).__name__}",
            expected="a checkpoint of the same architecture",
        )
    module.load_state_dict(loaded, strict=False)
    anew = [name for name in own if name not in loaded]
    if anew:
        _log.warning(
            "%s lacks %d of %d tensors, which get fresh weights: %s", checkpoint.path, len(anew), len(own), anew[0]
        )


def _rows_between(network: PoseNetwork, known: Skeleton, have: int, need: int) -> list[int] | None:
    """Return for each row of an output layer its row in the checkpoint, -1 for none; None if it is no output layer.

    The number of rows identifies the output: the method's channels, and as many more as the network adds.
    """
    strides = {output.name: output.stride for output in network.outputs}
    for own, other in zip(network.outputs, network.method.outputs(known, strides=strides), strict=True):
        # Such as a background, which is the last channel for every skeleton.
        more = own.channels - len(own.labels)
        if need == own.channels and have == other.channels + more:
            rows = [other.labels.index(label) if label in other.labels else -1 for label in own.labels]
            return [*rows, *(other.channels + i for i in range(more))]
    return None
