"""MultiPoseNet on the trunk (Kocabas et al. 2018, arXiv 1807.04067): heatmaps, boxes and the Pose Residual Network.

Heatmaps come from the finest level of the decoder, boxes from the others. For each of the best boxes the heatmaps are
cut to the grid of the Pose Residual Network (section 3.4), which has fewer hidden units than the published one. The
paper trains it on drawn keypoints; here it learns from the network's own heatmaps in the boxes of the people, so it
also sees what they miss.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from featherpose.methods.method import Method
from featherpose.methods.regions.residual import RESIDUAL
from featherpose.nn.layers.roi_align import roi_align
from featherpose.nn.outputs import BoxRows
from featherpose.nn.published.multiposenet import PRN_GRID, PoseResidualNetwork
from featherpose.nn.trunk.network import Levels, maps_head, probability
from featherpose.nn.trunk.people import PeopleNetwork, Regions, best_people, highest_cells, widened
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["LearnedResiduals", "LightMultiPoseNet", "ResidualMaps"]

_HIDDEN = 128
# A heatmap of height 1 changes a softmax over 2016 cells little: the network sees peaks of this height.
_HEIGHT = 10.0


class ResidualMaps(NamedTuple):
    """The outputs of MultiPoseNet.

    Attributes:
        heatmaps: float[B, K, h, w] in 0..1.
        boxes: float[B, 1, N, 4]: left, top, right, bottom in input pixels, counted from the edge of the first one.
        scores: float[B, 1, N, 1] in 0..1.
        places: float[B, 1, N, 3K]: x, y and probability of each keypoint.
    """

    heatmaps: Float[Tensor, "B K h w"]
    boxes: Float[Tensor, "B 1 N 4"]
    scores: Float[Tensor, "B 1 N 1"]
    places: Float[Tensor, "B 1 N D"]


class LearnedResiduals(NamedTuple):
    """What MultiPoseNet learns from: heatmaps, all rows of boxes, and the choices in R annotated boxes.

    Attributes:
        heatmaps: float[B, K, h, w] in 0..1.
        boxes: float[B, 1, N, 4].
        scores: float[B, 1, N, 1].
        logits: float[R, K, rows, columns].
        regions: float[R, 4]: the boxes of the grids.
        images: int[R]: the image of each.
        rows: int[R]: the row of each in the targets.
    """

    heatmaps: Float[Tensor, "B K h w"]
    boxes: Float[Tensor, "B 1 N 4"]
    scores: Float[Tensor, "B 1 N 1"]
    logits: Float[Tensor, "R K rows columns"]
    regions: Float[Tensor, "R 4"]
    images: Int[Tensor, " R"]
    rows: Int[Tensor, " R"]


class LightMultiPoseNet(PeopleNetwork):
    """Heatmaps, boxes, and the place of each keypoint in each box.

    Args:
        skeleton: Keypoints of the outputs.

    Example:
        >>> import torch
        >>> (maps,) = LightMultiPoseNet().eval()(torch.zeros(1, 3, 64, 96))
        >>> tuple(maps.heatmaps.shape), tuple(maps.places.shape)
        ((1, 17, 16, 24), (1, 1, 20, 51))
    """

    MARK: ClassVar[str] = "prn.layers.0.weight"
    method: Method = RESIDUAL

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        super().__init__(skeleton, RESIDUAL.outputs(skeleton))
        width = self.decoder.widths[0]
        self.heatmaps = maps_head(width, skeleton.num_keypoints)
        self.prn = PoseResidualNetwork(skeleton.num_keypoints, hidden=_HIDDEN)

    def answer(self, levels: Levels) -> tuple[ResidualMaps, ...]:
        """Compute heatmaps and, in the best boxes, places; one stage."""
        heatmaps = probability(self.heatmaps(levels[0]))
        found = best_people(self.people(levels))
        boxes = widened(found.boxes[:, 0])
        _, chosen = self.choices(heatmaps, boxes)
        return (ResidualMaps(heatmaps, *found, highest_cells(chosen, boxes)),)

    def choices(
        self, heatmaps: Float[Tensor, "B K h w"], boxes: Float[Tensor, "B n 4"]
    ) -> tuple[Float[Tensor, "B n K rows columns"], Float[Tensor, "B n K rows columns"]]:
        """Cut the heatmaps to boxes in input pixels; return what the Pose Residual Network sees and what it chooses."""
        grids = roi_align(_HEIGHT * heatmaps, boxes, 4, PRN_GRID, samples=1)
        return grids, self.prn(grids.flatten(0, 1)).reshape(grids.shape)

    def guided(self, levels: Levels, regions: Regions) -> tuple[LearnedResiduals, ...]:
        """Compute heatmaps, all boxes, and the choices in the regions."""
        heatmaps = probability(self.heatmaps(levels[0]))
        found: BoxRows = self.people(levels)
        grids = roi_align(_HEIGHT * heatmaps.detach(), regions.boxes, 4, PRN_GRID, samples=1)[regions.present]
        logits = self.prn(grids).clamp(min=1e-9).log()
        return (LearnedResiduals(heatmaps, *found, logits, regions.of_people, regions.images, regions.rows),)
