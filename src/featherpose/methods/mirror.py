"""Outputs of a mirrored image, brought back to the image itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from featherpose.errors import DatasetError
from featherpose.methods.method import Arrays, Output

__all__ = ["mirror_order", "mirror_outputs"]


def mirror_order(output: Output, channels: int) -> list[int]:
    """Return the channel of the image for each channel of its mirror image.

    Args:
        output: One output.
        channels: Channels of the array; those that the method does not read, such as a background, keep their place.

    Raises:
        DatasetError: If the skeleton has no mirror image.
    """
    if output.mirror is None:
        raise DatasetError(
            f"output {output.name!r} has no mirror image",
            expected="a skeleton whose limbs come in mirrored pairs with one direction",
        )
    return [*output.mirror, *range(len(output.mirror), channels)]


def mirror_outputs(arrays: Arrays, outputs: Sequence[Output]) -> dict[str, Float32[np.ndarray, "C h w"]]:
    """Convert the outputs of a mirrored image to outputs of the image: left and right change places, vectors turn.

    Args:
        arrays: Outputs of the mirrored image; not modified.
        outputs: What they are.

    Raises:
        DatasetError: If the skeleton has no mirror image.

    Example:
        >>> from featherpose.methods.heatmap import HEATMAP
        >>> from featherpose.skeleton import COCO_17
        >>> heatmaps = np.zeros((17, 1, 4), np.float32)
        >>> heatmaps[COCO_17.keypoints.index("left_eye"), 0, 0] = 1
        >>> back = mirror_outputs({"heatmaps": heatmaps}, HEATMAP.outputs(COCO_17))
        >>> back["heatmaps"][COCO_17.keypoints.index("right_eye")].tolist()
        [[0.0, 0.0, 0.0, 1.0]]
    """
    mirrored = {}
    for output in outputs:
        array = arrays[output.name]
        turned = np.ascontiguousarray(array[mirror_order(output, len(array)), :, ::-1])
        turned[[x for x, _ in output.vectors]] *= -1
        mirrored[output.name] = turned
    return mirrored
