"""The network that a configuration names, with the weights it starts from."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from featherpose import zoo
from featherpose.data.dataset import read_picture
from featherpose.errors import CheckpointError
from featherpose.nn.checkpoints import Checkpoint, read_checkpoint
from featherpose.nn.feather import Feather
from featherpose.nn.feather_scales import equalise_scales
from featherpose.nn.movenet import read_movenet
from featherpose.nn.networks import as_module, create_network
from featherpose.nn.outputs import PoseNetwork
from featherpose.skeleton import Skeleton
from featherpose.training.config import NetworkConfig

__all__ = ["build_network", "bundled_weights", "carry_over", "evaluating", "still_norms"]

_log = logging.getLogger(__name__)

_FITTING_PICTURES, _FITTING_HEIGHT_PX = 16, 256


def build_network(
    config: NetworkConfig, skeleton: Skeleton, pictures: Sequence[Path] = (), *, equalise: bool = False
) -> PoseNetwork:
    """The network with its starting weights; frozen parameters take no gradient.

    Args:
        config: Which network, from what start.
        skeleton: Keypoints and limbs of its outputs.
        pictures: Photographs for feather's front, which is fitted to the public one on a few of them.
        equalise: Whether feather's channels are brought to equal scales on those photographs, as 8 bits need.

    Raises:
        OptionError: If there is no network of that name.
        ModelError: If the public starting file is damaged.
        CheckpointError: If the start is damaged or of another architecture.
    """
    network: PoseNetwork
    if config.kind == "feather" and config.start.endswith(".tflite"):
        trunk = read_movenet(config.start)
        network = Feather.from_movenet(
            trunk, _some_of(pictures), skeleton, channels=config.channels, blocks=config.blocks
        )
    else:
        if config.kind == "feather":
            network = Feather(skeleton, channels=config.channels, blocks=config.blocks)
        else:
            network = create_network(config.kind, skeleton, refinements=config.refinements)
        if config.start:
            start = bundled_weights() if config.start == "bundled" else Path(config.start)
            carry_over(network, read_checkpoint(start))
    if equalise and isinstance(network, Feather):
        equalise_scales(network.eval(), _some_of(pictures))
    for name, parameter in as_module(network).named_parameters():
        parameter.requires_grad_(not any(name.startswith(start) for start in config.freeze))
    return network


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """A block in which the network is in evaluation mode; afterwards every layer is in its own mode again."""
    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def still_norms(network: nn.Module) -> None:
    """Batch norms whose parameters are frozen keep their statistics: what is frozen says the same at every step."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            parameters = list(module.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()


def _some_of(pictures: Sequence[Path]) -> list[Float[Tensor, "1 3 H W"]]:
    chosen = pictures[:: max(1, len(pictures) // _FITTING_PICTURES)][:_FITTING_PICTURES]
    return [_fitted(read_picture(path)) for path in chosen]


def _fitted(image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "1 3 H W"]:
    height, width = image.shape[:2]
    size = (_FITTING_HEIGHT_PX, max(32, round(width * _FITTING_HEIGHT_PX / height / 32) * 32))
    small = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small).permute(2, 0, 1)[None].float()


def bundled_weights() -> Path:
    """The FP16 weights of the network in the package, the newest by name.

    Raises:
        CheckpointError: If this installation has none.
    """
    found = sorted((Path(zoo.__file__).parent / "weights").glob("feather-*.safetensors"))
    if not found:
        raise CheckpointError("the weights of the bundled network are not in this installation")
    return found[-1]


def _keypoint_rows(known: Skeleton, wanted: Skeleton, background: bool) -> list[int]:
    rows = [known.keypoints.index(n) if n in known.keypoints else -1 for n in wanted.keypoints]
    return [*rows, known.num_keypoints] if background else rows


def _paf_rows(known: Skeleton, wanted: Skeleton) -> list[int]:
    limbs = {(known.keypoints[a], known.keypoints[b]): i for i, (a, b) in enumerate(known.limbs)}
    rows = [-1] * (2 * wanted.num_limbs)
    for i, (a, b) in enumerate(wanted.limbs):
        source = limbs.get((wanted.keypoints[a], wanted.keypoints[b]))
        for axis in (0, 1):
            rows[wanted.paf_channels[i][axis]] = -1 if source is None else known.paf_channels[source][axis]
    return rows


def carry_over(network: PoseNetwork, checkpoint: Checkpoint) -> None:
    """Load what fits; output rows of keypoints and limbs that both skeletons name are taken over one by one.

    Raises:
        CheckpointError: If fewer than half of the network's tensors fit.
    """
    module, known, wanted = as_module(network), checkpoint.skeleton(), network.skeleton
    own = module.state_dict()
    loaded: dict[str, Tensor] = {}
    for name, value in checkpoint.tensors.items():
        if name not in own or own[name].shape[1:] != value.shape[1:]:
            continue
        rows = _rows_between(len(value), len(own[name]), known, wanted) if value.dim() and known != wanted else None
        if rows is not None:
            fresh = own[name].clone()
            for row, origin in enumerate(rows):
                if origin >= 0:
                    fresh[row] = value[origin]
            loaded[name] = fresh
        elif own[name].shape == value.shape:
            loaded[name] = value
    if len(loaded) * 2 < len(own):
        raise CheckpointError(
            f"{checkpoint.path} fits {len(loaded)} of {len(own)} tensors of {type(network).__name__}",
            expected="a checkpoint of the same architecture",
        )
    module.load_state_dict(loaded, strict=False)
    anew = [name for name in own if name not in loaded]
    if anew:
        _log.warning("%s lacks %d of %d tensors, which begin anew: %s", checkpoint.path, len(anew), len(own), anew[0])


def _rows_between(have: int, need: int, known: Skeleton, wanted: Skeleton) -> list[int] | None:
    # Which output is meant follows from its number of channels: heatmaps with or without background, or fields.
    for background in (0, 1):
        if have == known.num_keypoints + background and need == wanted.num_keypoints + background:
            return _keypoint_rows(known, wanted, bool(background))
    if have == 2 * known.num_limbs and need == 2 * wanted.num_limbs:
        return _paf_rows(known, wanted)
    return None
