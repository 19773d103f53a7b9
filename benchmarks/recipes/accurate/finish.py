r"""Turn a trained `FineOpenPose` of the released widths into a checkpoint of `human-pose-estimation-0001`.

    python benchmarks/recipes/accurate/finish.py RUN/m-100.safetensors a.npz --released released.safetensors \
        --out accurate.safetensors

The batch norms are folded into their convolutions. The weights are then moved part of the way back to those that
training started from (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). The mean of the four filters of
the heatmaps' sub-pixels gives heatmaps at stride 8. The heatmap of the background, which was not trained, is fitted to
1 less the highest heatmap by least squares. ``featherpose export`` then takes the file.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from network import SUB_PIXELS, ConvNorm, FineOpenPose
from released import conv_at, read_released, released_name
from resident import load
from safetensors.torch import load_file
from start import least_squares, start_from_released
from torch import Tensor

from featherpose.errors import CheckpointError
from featherpose.nn.checkpoints import save_network
from featherpose.nn.human_pose_estimation_0001 import HumanPoseEstimation0001
from featherpose.skeleton import OPENPOSE_18

TRAINED_PART = 0.7
"""Of the weights; the rest is their start."""
START_IMAGES, START_SIDE = 6, 256
BACKGROUND_IMAGES, BACKGROUND_SIDE = 20, 320
"""The first photographs of the file and the pixels that they are cut to, for the start and the background's fit."""
CANVAS = 480
_RIDGE = 1e-4

_KEYPOINTS, _FIELDS = OPENPOSE_18.num_keypoints, 2 * OPENPOSE_18.num_limbs


def read_trained(path: Path) -> FineOpenPose:
    """Read weights that `train` saved, in FP32.

    Raises:
        CheckpointError: If they have other widths than the released network.
    """
    network = FineOpenPose()
    try:
        network.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise CheckpointError(f"{path} is no network of the released widths", expected="512,128,512,5") from error
    return network.eval()


@torch.no_grad()
def folded(network: FineOpenPose) -> dict[str, Tensor]:
    """Fold every batch norm into the convolution in front of it.

    Returns:
        ``NAME.weight`` and ``NAME.bias`` of each convolution, by the names of the released network.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        if isinstance(module, ConvNorm):
            norm = module.norm
            if norm.running_mean is None or norm.running_var is None:
                raise CheckpointError(f"the batch norm of {name} has no statistics")
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            tensors[f"{released_name(name)}.weight"] = module.conv.weight * scale[:, None, None, None]
            tensors[f"{released_name(name)}.bias"] = norm.bias - norm.running_mean * scale
    for stage in ("initial_heads", "heads"):
        for branch in ("heatmaps", "pafs"):
            conv = conv_at(network, f"{stage}.{branch}")
            for kind, tensor in conv.named_parameters():
                tensors[f"{released_name(f'{stage}.{branch}')}.{kind}"] = tensor.clone()
    return tensors


def interpolated(trained: Mapping[str, Tensor], start: Mapping[str, Tensor], part: float) -> dict[str, Tensor]:
    """Return weights on the way from the start (0) to the trained ones (1)."""
    return {name: part * tensor + (1 - part) * start[name] for name, tensor in trained.items()}


def released_layout(tensors: Mapping[str, Tensor]) -> HumanPoseEstimation0001:
    """Build the released network from folded weights, with heatmaps at stride 8 and a background of zeros.

    Args:
        tensors: Of `folded`, changed in no name or shape.
    """
    result = dict(tensors)
    for stage, cells in (("initial_heads", 1), ("heads", SUB_PIXELS**2)):
        last = released_name(f"{stage}.heatmaps")
        for kind in ("weight", "bias"):
            # Convolution and mean are linear: the mean of the filters is the filter of the mean.
            filters = torch.stack([tensors[f"{last}.{kind}"][cell::cells] for cell in range(cells)]).mean(0)
            result[f"{last}.{kind}"] = torch.cat((filters, torch.zeros_like(filters[:1])))
    # The released refinement stage reads a background between heatmaps and features.
    first = f"{released_name('refinement.0.reduce')}.weight"
    maps, features = result[first].tensor_split([_FIELDS + _KEYPOINTS], 1)
    result[first] = torch.cat((maps, torch.zeros_like(maps[:, :1]), features), 1)
    network = HumanPoseEstimation0001()
    network.load_state_dict(result)
    return network.eval()


@torch.no_grad()
def fit_background(network: HumanPoseEstimation0001, images: Float[Tensor, "B 3 H W"]) -> None:
    """Fit the last heatmap of both stages to 1 less the highest of the others, in place.

    Args:
        network: Whose refinement stage does not read the background.
        images: BGR photographs, 0..255.
    """
    for stage in ("initial_heads", "heads"):
        last = conv_at(network, released_name(f"{stage}.heatmaps"))
        seen: list[tuple[Tensor, Tensor]] = []
        hook = last.register_forward_hook(lambda _, inputs, outputs, seen=seen: seen.append((inputs[0], outputs)))
        network(images)
        hook.remove()
        ((inputs, outputs),) = seen
        rows = inputs.movedim(1, -1).flatten(0, 2).double()
        wanted = 1 - outputs[:, :_KEYPOINTS].amax(1).flatten().double()
        weights = least_squares(rows, wanted, _RIDGE).to(last.weight.dtype)
        last.weight[_KEYPOINTS, :, 0, 0] = weights[:-1]
        if last.bias is not None:
            last.bias[_KEYPOINTS] = weights[-1]
        error = float(((rows @ weights[:-1].double() + float(weights[-1]) - wanted) ** 2).mean())
        print(f"background of {stage}: squared error {error:.5f} of variance {float(wanted.var()):.5f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path, help="weights that train.py saved")
    parser.add_argument("packed", type=Path, help="a.npz, of which the first photographs are used")
    parser.add_argument("--released", type=Path, required=True, help="released weights: the start")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint, .safetensors")
    parser.add_argument("--part", type=float, default=TRAINED_PART, help="of the trained weights, 0 to 1")
    options = parser.parse_args()
    photographs = load(options.packed, CANVAS, torch.device("cpu"), BACKGROUND_IMAGES).images.float()
    start = FineOpenPose()
    released = read_released(options.released)
    start_from_released(start, released, photographs[:START_IMAGES, :, :START_SIDE, :START_SIDE])
    trained = folded(read_trained(options.trained))
    network = released_layout(interpolated(trained, folded(start.eval()), options.part))
    fit_background(network, photographs[:BACKGROUND_IMAGES, :, :BACKGROUND_SIDE, :BACKGROUND_SIDE])
    save_network(options.out, network, "human-pose-estimation-0001")
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
