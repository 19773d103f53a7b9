"""Heatmaps and tags on the trunk (Newell et al. 2017, arXiv 1611.05424): Associative Embedding for whole images.

Where all tags are equal the loss has no slope: nothing pulls, and what pushes two people apart has the derivative 0
there. Tags that start small get there within a hundred steps, and a short training does not leave it again. So the
layer that writes tags also reads where it is (Liu et al. 2018, "CoordConv", arXiv 1807.03247), and starts with the
column, in units of 32 pixels: people beside each other begin with different tags, and what is left to learn is that the
keypoints of a person share one.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from featherpose.methods.method import Method
from featherpose.methods.tags.tag_method import TAGS, TagOptions
from featherpose.nn.layers.residual import conv_norm_relu
from featherpose.nn.outputs import TagMaps
from featherpose.nn.trunk.network import ImageNetwork, cell_indices, maps_head, probability
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["LightAssociativeEmbedding"]

# A step of the tags at the start, in cells of stride 4, and the rows' part of it.
_CELLS, _ROWS = 8.0, 0.25


class LightAssociativeEmbedding(ImageNetwork):
    """Heatmaps and tags of everyone at stride 4.

    Args:
        skeleton: Keypoints of the outputs.

    Example:
        >>> ((heatmaps, tags),) = LightAssociativeEmbedding().eval()(torch.zeros(1, 3, 64, 96))
        >>> tuple(heatmaps.shape), tuple(tags.shape)
        ((1, 17, 16, 24), (1, 17, 16, 24))
    """

    MARK: ClassVar[str] = "tags.weight"
    method: Method = TAGS
    probabilities = True
    # What `tune-decoder` chose on held-out training images.
    options = TagOptions(peak_threshold=0.2, max_distance=1.5, fill=False)

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        super().__init__(skeleton, TAGS.outputs(skeleton))
        width = self.decoder.widths[0]
        self.hidden = conv_norm_relu(width, width)
        self.heatmaps = maps_head(width, skeleton.num_keypoints)
        self.tags = nn.Conv2d(width + 2, skeleton.num_keypoints, 1)
        with torch.no_grad():
            self.tags.weight[:, -2:] = torch.tensor((1.0, _ROWS))[None, :, None, None]

    def answer(self, levels: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[TagMaps, ...]:
        """Compute heatmaps and tags; one stage."""
        x = self.hidden(levels[0])
        tags = self.tags(torch.cat((x, cell_indices(x) / _CELLS), 1))
        return (TagMaps(probability(self.heatmaps(levels[0])), tags.float()),)
