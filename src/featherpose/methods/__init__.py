"""Pose methods: network outputs to people, and people to training targets.

A new method is one module (or a package, for a large one) with a class that fills `featherpose.methods.method.Method`,
and one line in `METHODS`.
"""

from __future__ import annotations

from featherpose.errors import OptionError
from featherpose.methods.boxes.box_rows import BOX_ROWS
from featherpose.methods.boxes.person_boxes import PERSON_BOXES
from featherpose.methods.cascade import CASCADE, PLAIN_CASCADE
from featherpose.methods.coarse_fine import COARSE_FINE
from featherpose.methods.disks.disk_method import DISKS
from featherpose.methods.heatmap import HEATMAP
from featherpose.methods.hourglass import HOURGLASS
from featherpose.methods.method import Arrays, Decoder, Method, Output, Target
from featherpose.methods.paf.method import PAF
from featherpose.methods.recentered import RECENTERED
from featherpose.methods.regions.mask import MASK
from featherpose.methods.regions.residual import RESIDUAL
from featherpose.methods.regression import REGRESSION
from featherpose.methods.simcc import SIMCC
from featherpose.methods.tags.tag_method import TAGS

__all__ = ["METHODS", "Arrays", "Decoder", "Method", "Output", "Target", "method_named"]

METHODS: tuple[Method, ...] = (
    PAF,
    HEATMAP,
    REGRESSION,
    HOURGLASS,
    CASCADE,
    PLAIN_CASCADE,
    COARSE_FINE,
    RECENTERED,
    DISKS,
    TAGS,
    MASK,
    RESIDUAL,
    SIMCC,
    BOX_ROWS,
    PERSON_BOXES,
)


def method_named(name: str) -> Method:
    """Look a method up.

    Raises:
        OptionError: If there is none of that name.

    Example:
        >>> method_named("paf").title
        'Part affinity fields (Cao et al. 2017; Osokin 2018)'
    """
    for method in METHODS:
        if method.name == name:
            return method
    raise OptionError(f"there is no pose method {name!r}", expected=f"one of {', '.join(m.name for m in METHODS)}")
