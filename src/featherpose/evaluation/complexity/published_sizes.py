"""Published parameters and multiply-accumulates of the slides' other systems, and why counted ones differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["PUBLISHED_SIZES", "PublishedSize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSize:
    """What the literature says of a network.

    Attributes:
        size: Input (width, height) in pixels of the figures.
        parameters: Millions of parameters, None where nobody published them.
        gmacs: 1e9 multiply-accumulates, None where nobody published them.
        source: Where the figures stand.
        note: Why the count here differs by more than 2 %, or what the network leaves open.
    """

    size: tuple[int, int]
    parameters: float | None = None
    gmacs: float | None = None
    source: str = ""
    note: str = ""


PUBLISHED_SIZES: Mapping[str, PublishedSize] = MappingProxyType(
    {
        "deeppose": PublishedSize(
            size=(220, 220),
            source="Toshev and Szegedy 2014",
            note="The layers of the paper's figure 2 sum to this count; the paper's text says about 40 M.",
        ),
        "hourglass": PublishedSize(
            size=(192, 256), parameters=25.1, gmacs=14.3, source="Sun et al. 2019, table 1",
            note="Chen et al. 2018 (table 8) count 19.5 G for the same network at 256x192 and 25.9 G at 256x256, 6 % "
            "less than the 20.6 and 27.5 G here; Zhang et al. 2019 (table 2) give 55 G operations at 256x256, twice "
            "27.5. Without the residual block behind each hourglass it would be 15.4 G.",
        ),
        "associative-embedding": PublishedSize(
            size=(512, 512), parameters=277.8, gmacs=206.9, source="Cheng et al. 2020, table 1",
            note="The published number of parameters is twice the count of the four stacks and the stem. The stacks "
            "alone cost 208.6 G, the published multiply-accumulates within 1 %; the stem adds 12.7 G.",
        ),
        "cpn": PublishedSize(
            size=(192, 256), parameters=27.0, gmacs=6.2,
            source="Chen et al. 2018, tables 3 and 8; Sun et al. 2019, table 1",
            note="Two things explain the difference: the projection shortcut of the last bottleneck, 1024 to 256 "
            "channels at stride 4, costs 0.8 G, and strides stand in the 3x3 convolutions of ResNet-50 here (0.2 G).",
        ),
        "g-rmi": PublishedSize(
            size=(257, 353), parameters=42.6, gmacs=57.0, source="Sun et al. 2019, table 2",
            note="With output stride 8 a 353x257 crop has 45x33 cells, which the dilated stages cost 60.9 G for; the "
            "published figure is smaller than these alone, so it was counted with fewer cells.",
        ),
        "cfn": PublishedSize(
            size=(192, 256), source="Huang et al. 2017",
            note="The paper gives no totals and not every width: this is what nn/published/cfn.py describes.",
        ),
        "rmpe": PublishedSize(
            size=(192, 256), source="Fang et al. 2017",
            note="ResNet-18 for the transformer, four stacks for the pose; the parallel branch is for training alone.",
        ),
        "mask-rcnn": PublishedSize(
            size=(800, 800), parameters=59.1, source="torchvision, keypointrcnn_resnet50_fpn: 59,137,258",
            note="Multiply-accumulates of the heads are those of one region; an image has up to 1000 for boxes.",
        ),
        "multiposenet": PublishedSize(
            size=(480, 480), source="Kocabas et al. 2018",
            note="The paper gives no totals. The pose residual network is counted for one box.",
        ),
    }
)  # fmt: skip
"""By the name of the network; the keypoints are COCO's 17."""
