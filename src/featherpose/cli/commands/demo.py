"""``featherpose demo``: the main job, on a photograph that is shipped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from featherpose.cli.commands.predict import predict
from featherpose.cli.options.predict_options import FileOptions, FormatTargets
from featherpose.demo import PHOTOGRAPH
from featherpose.files import check_writable, write_bytes

__all__ = ["demo"]


def demo(
    *,
    output: Annotated[
        Path, Parameter(name=["--output", "-o"], help="Folder of the results; made unless it exists.")
    ] = Path("featherpose-demo"),
) -> int:
    """Find the people in a photograph that ships with featherpose, offline, and print where the results are.

    Writes the photograph, the same with the skeletons drawn, and the keypoints as JSON Lines. The photograph is in
    the public domain; its sources are named beside it in the package.
    """
    photograph, drawn, poses = output / "people.jpg", output / "people.poses.jpg", output / "people.jsonl"
    for path in (photograph, drawn, poses):
        check_writable(path)
    write_bytes(photograph, PHOTOGRAPH.read_bytes())
    code = predict(
        [str(photograph)],
        files=FileOptions(output=drawn, jsonl_header=True),
        formats=FormatTargets(jsonl=str(poses)),  # type: ignore[call-arg]
    )
    if code == 0:
        print(f"The people are drawn in {drawn.resolve()}, their keypoints are in {poses.name} beside it.")
        print("Next, an image of yours: featherpose predict photo.jpg", file=sys.stderr)
    return code
