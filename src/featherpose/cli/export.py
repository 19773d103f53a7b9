"""``featherpose export``: a checkpoint becomes an ONNX model and an OpenVINO IR that are proven to say the same."""

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
    equalise: Path | None = None,
    pictures: Path | None = None,
    labelled: Path | None = None,
    height: int = 256,
    licence: str = "",
    provenance: str = "",
    json: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Export a checkpoint to ONNX and OpenVINO IR, and verify both on real pictures.

    The files take pictures as they are (uint8, BGR, any height and width); normalisation is inside.

    Args:
        checkpoint: A .safetensors, .pth or .pt file; the published Lightweight OpenPose checkpoint too.
        output: Folder for the files.
        network: Name of the network; recognised if left out.
        skeleton: Skeleton of the network, built in or a file; as stated in the checkpoint if left out.
        name: Name of the files; the checkpoint's if left out.
        stage: Stage that answers: -1 the last, 0 the initial one.
        float_weights: Store the IR's weights in FP32 instead of FP16.
        equalise: Folder of pictures on which feather's channels get equal scales first: the outputs stay what they
            are, and INT8 then loses less. Only for feather.
        pictures: Folder of pictures to verify with; one public-domain photograph if left out.
        labelled: Labelled folder (annotations.json and images/): AP before and after, side by side.
        height: Network input height of the verification in pixels.
        licence: Licence of the weights, for the card.
        provenance: Who made the weights from what, for the card.
        json: Also write the comparison to this file.
    """
    try:
        from featherpose.deploy.exporting import ExportRequest, export_checkpoint
    except ModuleNotFoundError as error:
        raise MissingExtraError("exporting a checkpoint", "train") from error
    result = export_checkpoint(
        ExportRequest(
            checkpoint=checkpoint, output=output, network=network, skeleton=skeleton, name=name, stage=stage,
            fp16=not float_weights, equalise=equalise, pictures=pictures, labelled=labelled, height=height,
            licence=licence, provenance=provenance,
        )
    )  # fmt: skip
    print_table(
        ["file", "largest difference", "heatmap error", "PAF error", "people before", "people after", "AP before",
         "AP after"],
        [
            [
                path.name, f"{c.largest_difference:.5f}", f"{100 * c.heatmap_error:.3f} %",
                f"{100 * c.paf_error:.3f} %", c.people_before, c.people_after,
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
