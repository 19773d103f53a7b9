"""Sports2D's calculation on given keypoints, run by the Python in whose environment it is installed.

Its own functions in the order of its own program: angles frame by frame, then for every column of coordinates and of
angles interpolation, outlier rejection and the Butterworth filter. What it needs only for video, windows and inverse
kinematics is replaced by empty modules where it is not installed.

    python motion_sports2d.py keypoints.npz angles.json
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import sys
from pathlib import Path
from time import process_time
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np

_UNUSED = ("av", "opensim", "mpl_interactions", "PySide6", "caliscope", "lxml", "IPython", "openvino", "imageio_ffmpeg",
           "deep_sort_realtime", "rtmlib")  # fmt: skip


class _Empty:
    """Finds and loads an empty module for each package that the calculation does not use."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name.split(".")[0] not in _UNUSED:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = MagicMock(name=spec.name)
        module.__path__, module.__spec__ = [], spec
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


def main() -> None:
    given, answer = Path(sys.argv[1]), Path(sys.argv[2])
    sys.meta_path.append(_Empty())
    import pandas as pd  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from Pose2Sim.common import (  # type: ignore[import-not-found,unused-ignore]
        add_shoulder_neck_hip_coords,
        angle_dict,
        interpolate_zeros_nans,
    )
    from Pose2Sim.filtering import (  # type: ignore[import-not-found,unused-ignore]
        butterworth_filter_1d,
        hampel_filter,
    )
    from Sports2D.process import compute_angles_for_person  # type: ignore[import-not-found,unused-ignore]

    data = np.load(given)
    points, rate = data["points"], float(data["rate"])
    names = [str(name) for name in data["names"]]
    started = process_time()
    feet = all(name in names for name in ("LBigToe", "LHeel", "RBigToe", "RHeel"))
    directions = [names.index(n) for n in ("LBigToe", "LHeel", "RBigToe", "RHeel")] if feet else None
    wanted = list(angle_dict)
    rows = []
    for frame in points:
        x, y, scores = frame[:, 0], frame[:, 1], np.ones(len(frame))
        known, ids = list(names), list(range(len(names)))
        for extra in ("RShoulder", "LShoulder", "Hip", "Neck"):
            if extra not in known:
                x, y, scores = add_shoulder_neck_hip_coords(extra, x, y, scores, ids, known)
                known.append(extra)
                ids.append(len(x) - 1)
        _, angles, _ = compute_angles_for_person(x, y, "auto", feet, ids, known, wanted, angle_dict, directions)
        rows.append(angles)
    table = pd.DataFrame(np.array(rows, float), columns=wanted)
    options = {"filtering": {"butterworth": {"order": 4, "cut_off_frequency": 6}}}
    for frame in (table, pd.DataFrame(points.reshape(len(points), -1))):
        for column in frame:
            if frame[column].notna().sum() > 4:
                whole = interpolate_zeros_nans(frame[column], 100, "linear")
                butterworth_filter_1d(options, rate, hampel_filter(whole))
    seconds = process_time() - started
    shown = {name.replace(" ", "_"): [None if v != v else v for v in table[name].tolist()] for name in wanted}
    answer.write_text(json.dumps({"seconds": seconds, "angles": shown}))


if __name__ == "__main__":
    if importlib.util.find_spec("Sports2D") is None:
        sys.exit("Sports2D is not installed here: pip install sports2d")
    main()
