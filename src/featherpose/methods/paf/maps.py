"""The outputs of a network for one image: heatmaps and part affinity fields, each with its own stride."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from featherpose.errors import ModelError

__all__ = ["Maps"]


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """Heatmaps and part affinity fields of one image.

    Attributes:
        heatmaps: float32[C, h, w] with C ≥ K; channel k is keypoint k, channels behind K (a background) are not
            read by the decoder.
        pafs: float32[2L, h', w'], unit vectors along the limbs, x and y at `Skeleton.paf_channels`.
        heatmap_stride: Network pixels per heatmap cell.
        paf_stride: Network pixels per PAF cell; may differ from the heatmaps'.

    The arrays are read, never written; they may be views into an engine's memory and are then valid only until
    the engine's next inference on that request.

    Raises:
        ModelError: If an array is not three-dimensional.
    """

    heatmaps: Float32[np.ndarray, "C h w"]
    pafs: Float32[np.ndarray, "D v u"]
    heatmap_stride: int = 8
    paf_stride: int = 8

    def __post_init__(self) -> None:
        if self.heatmaps.ndim != 3 or self.pafs.ndim != 3:
            raise ModelError(
                f"heatmaps of shape {self.heatmaps.shape} and PAFs of shape {self.pafs.shape}",
                expected="three axes each: channels, rows, columns",
            )

    def __repr__(self) -> str:
        return f"Maps(heatmaps {self.heatmaps.shape} /{self.heatmap_stride}, pafs {self.pafs.shape} /{self.paf_stride})"
