"""``featherpose export``: export a checkpoint to ONNX and OpenVINO IR, and verify that both give the same outputs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from featherpose.cli.report import print_table, write_json
from featherpose.errors import MissingExtraError

__all__ = ["export"]


def export(
    checkpoint: Path,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path(),
    network: str | None = None,
    skeleton: str | None = None,
    name: str | None = None,
    stage: int = -1,
    float_weights: bool = False,
    equalize: Path | None = None,
    hold_out_every: int = 1,
    images: Path | None = None,
    labeled: Path | None = None,
    height: int = 256,
    license: str = "",  # noqa: A002 - the name of the option
    provenance: str = "",
    json: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Export a checkpoint to ONNX and OpenVINO IR, and verify both on real images.

    The files take images as they are (uint8, BGR, any height and width); normalization is inside.

    Args:
        checkpoint: A .safetensors, .pth or .pt file; the published Lightweight OpenPose checkpoint too.
        output: Folder for the files.
        network: Name of the network; recognized if left out.
        skeleton: Skeleton of the network, built in or a file; as stated in the checkpoint if left out.
        name: Name of the files; the checkpoint's if left out.
        stage: Stage whose outputs are exported: -1 the last, 0 the initial one.
        float_weights: Store the IR's weights in FP32 instead of FP16.
        equalize: Folder of images for cross-layer equalization before the export: the outputs do not change, and INT8
            loses less. For feather, and with a labeled folder for the refiner.
        hold_out_every: Equalize by people in images whose id is no multiple of this (networks that take crops).
        images: Folder of images to verify with, a labeled one for the refiner; one public-domain photograph if left
            out.
        labeled: Labeled folder (annotations.json and images/): AP before and after, side by side.
        height: Network input height of the verification in pixels.
        license: License of the weights, for the card.
        provenance: Who made the weights from what, for the card.
        json: Also write the comparison to this file.
    """
    try:
        from featherpose.export.checkpoint import ExportRequest, export_checkpoint
    except ModuleNotFoundError as error:
        raise MissingExtraError("exporting a checkpoint", "train") from error
    result = export_checkpoint(
        ExportRequest(
            checkpoint=checkpoint, output=output, network=network, skeleton=skeleton, name=name, stage=stage,
            fp16=not float_weights, equalize=equalize, hold_out_every=hold_out_every, images=images,
            labeled=labeled, height=height, license=license, provenance=provenance,
        )
    )  # fmt: skip
    print_table(
        ["file", "largest difference", "errors of outputs", "people before", "people after", "AP before",
         "AP after"],
        [
            [
                path.name, f"{c.largest_difference:.5f}",
                ", ".join(f"{output} {100 * error:.3f} %" for output, error in c.errors.items()),
                c.people_before, c.people_after,
                f"{ap.before:.4f}" if ap else None, f"{ap.after:.4f}" if ap else None,
            ]
            for path, c, ap in result.verified
        ],
    )  # fmt: skip
    if json is not None:
        write_json(
            json,
            {
                "network": result.network,
                "files": [str(path) for path in result.files],
                "verified": [
                    {"file": path.name, **c.to_dict(), "ap": ap.to_dict() if ap else None}
                    for path, c, ap in result.verified
                ],
            },
        )
    print(f"{result.network}: wrote {', '.join(str(path) for path in result.files)}", file=sys.stderr)
