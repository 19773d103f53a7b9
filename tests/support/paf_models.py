"""Specifications of networks of the PAF method, for tests."""

from __future__ import annotations

from typing import Any

from featherpose.methods.paf.method import PAF
from featherpose.runtime.backend import ModelSpec
from featherpose.skeleton import OPENPOSE_18, Skeleton


def paf_spec(
    *,
    name: str,
    skeleton: Skeleton = OPENPOSE_18,
    heatmap_stride: int = 8,
    paf_stride: int = 8,
    heatmap_output: str = "",
    paf_output: str = "",
    **others: Any,
) -> ModelSpec:
    outputs = PAF.outputs(
        skeleton,
        strides={"heatmaps": heatmap_stride, "pafs": paf_stride},
        names={"heatmaps": heatmap_output, "pafs": paf_output},
    )
    return ModelSpec(name=name, skeleton=skeleton, method=PAF, outputs=outputs, **others)
