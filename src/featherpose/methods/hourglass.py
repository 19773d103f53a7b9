"""Heatmaps as Stacked Hourglass networks read and learn them (Newell et al. 2016, arXiv 1603.06937).

Section 3.4: the prediction is the highest cell, shifted a quarter of a cell towards the higher of its neighbors in x
and in y. Every stack is supervised with the same targets (section 3.3), which is what the loss of method ``heatmap``
does with the stages of any network.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from featherpose.methods.heatmap import HeatmapDecoder, HeatmapMethod
from featherpose.methods.maxima import find_maxima

__all__ = ["HOURGLASS", "HourglassDecoder", "HourglassMethod", "quarter_shift"]


def quarter_shift(
    heatmaps: Float32[np.ndarray, "K h w"], cells: Float32[np.ndarray, "K 2"]
) -> Float32[np.ndarray, "K 2"]:
    """Shift whole cells a quarter towards the higher neighbor, in x and in y.

    Args:
        heatmaps: One for each keypoint.
        cells: (x, y) of the highest cells.

    Example:
        >>> heatmap = np.float32([[[0, 0.1, 0], [0.3, 0.9, 0.2], [0, 0.4, 0]]])
        >>> quarter_shift(heatmap, np.float32([[1, 1]]))
        array([[0.75, 1.25]], dtype=float32)
    """
    shifted = np.array(cells, np.float32)
    height, width = heatmaps.shape[1:]
    for heatmap, (x, y), out in zip(heatmaps, cells.astype(np.int64), shifted, strict=True):
        if 0 < x < width - 1:
            out[0] += 0.25 * np.sign(heatmap[y, x + 1] - heatmap[y, x - 1])
        if 0 < y < height - 1:
            out[1] += 0.25 * np.sign(heatmap[y + 1, x] - heatmap[y - 1, x])
    return shifted


class HourglassDecoder(HeatmapDecoder):
    """Decodes heatmaps with the paper's quarter shift in place of the Taylor expansion."""

    def _find(
        self, heatmaps: Float32[np.ndarray, "C h w"]
    ) -> tuple[Float32[np.ndarray, "K 2"], Float32[np.ndarray, " K"]]:
        k = self._skeleton.num_keypoints
        cells, scores = find_maxima(heatmaps, k, subcell=False, smoothing=self._options.smoothing)
        return (quarter_shift(heatmaps[:k], cells) if self._options.subcell else cells), scores


class HourglassMethod(HeatmapMethod):
    """Single-person heatmaps with a quarter shift."""

    name = "hourglass"
    title = "Single-person heatmaps, supervised at every stack (Newell et al. 2016, Stacked Hourglass)"
    Decoder = HourglassDecoder


HOURGLASS = HourglassMethod()
"""The method, as a value."""
