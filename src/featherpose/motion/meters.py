"""From pixels to meters: the scale, the floor and the origin of a static camera.

One number of meters per pixel holds for one plane parallel to the image; a person who is nearer or farther is measured
too large or too small by the same share as their distance differs. The scale comes from a person's height, from a
known length in the image, or from a calibration file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featherpose.errors import OptionError, SourceError
from featherpose.motion.body_points import body_points
from featherpose.motion.cleaning.filters import derivative
from featherpose.motion.cleaning.medians import row_medians
from featherpose.motion.sequence import PoseSequence, Step
from featherpose.parsing import Limits, ParseError, parse_toml, read_document, reason_of

__all__ = [
    "Scale",
    "floor_of",
    "read_calibration",
    "scale_from_height",
    "scale_from_length",
    "stature_px",
    "to_meters",
]

# Heights above the ground in statures: ankle 0.039, knee 0.285, hip 0.530, shoulder 0.818 (Drillis & Contini 1966;
# Winter 2009, figure 4.1). The three segments between them are 0.779 of the stature.
_SHANK, _THIGH, _TRUNK = 0.246, 0.245, 0.288
_STRAIGHT_DEG = 40.0
_SAME_SHAPE = 0.02
_MOST = 1e9  # millimeters and pixels beyond it are mistakes


@dataclass(frozen=True, slots=True)
class Scale:
    """Mapping from pixels to meters.

    Attributes:
        meters_per_px: Size of a pixel at the person.
        uncertainty: One standard deviation of it, as a share (0.03 is 3 %).
        floor_deg: Angle of the floor in the image, counterclockwise; a camera that is tilted sees it slanted.
        origin_px: (x, y) of the origin in pixels, on the floor.
        source: Where the scale comes from, in words.
    """

    meters_per_px: float
    uncertainty: float
    floor_deg: float = 0.0
    origin_px: tuple[float, float] = (0.0, 0.0)
    source: str = ""


def stature_px(sequence: PoseSequence, person: int = 0) -> float:
    """Return a person's height in pixels, from the lengths of shank, thigh and trunk while they stand straight.

    The upper half of each segment's lengths is averaged over the straightest frames, because foreshortening only ever
    shortens. NaN if legs or trunk are missing.

    Raises:
        OptionError: If the sequence is in meters already.
    """
    if sequence.unit != "px":
        raise OptionError("the sequence is in meters already", expected="pixels")
    one = sequence.select([person])
    names = ["neck", "mid_hip", *(f"{s}_{part}" for s in ("left", "right") for part in ("hip", "knee", "ankle"))]
    points = {name: value[:, 0] for name, value in body_points(one, names).items()}
    if len(points) < len(names):
        return float("nan")

    def length(a: str, b: str) -> np.ndarray:
        return np.asarray(np.hypot(*(points[a] - points[b]).T))

    bends = [_bend(points, side) for side in ("left", "right")]
    bend = np.fmin(*bends)
    straight = bend < _STRAIGHT_DEG
    if straight.sum() < 5:
        known = np.flatnonzero(np.isfinite(bend))
        straight = np.zeros(len(bend), bool)
        straight[known[np.argsort(bend[known])[: max(5, len(known) // 4)]]] = True
    total = 0.0
    for pairs in (
        [(f"{s}_knee", f"{s}_ankle") for s in ("left", "right")],
        [(f"{s}_hip", f"{s}_knee") for s in ("left", "right")],
        [("neck", "mid_hip")],
    ):
        values = np.concatenate([length(a, b)[straight] for a, b in pairs])
        values = np.sort(values[np.isfinite(values)])
        if not len(values):
            return float("nan")
        total += float(values[len(values) // 2 :].mean())
    return total / (_SHANK + _THIGH + _TRUNK)


def _bend(points: dict[str, np.ndarray], side: str) -> np.ndarray:
    thigh = points[f"{side}_knee"] - points[f"{side}_hip"]
    shank = points[f"{side}_ankle"] - points[f"{side}_knee"]
    cross = thigh[:, 0] * shank[:, 1] - thigh[:, 1] * shank[:, 0]
    return np.asarray(np.degrees(np.abs(np.arctan2(cross, (thigh * shank).sum(-1)))))


def scale_from_height(sequence: PoseSequence, height_m: float, person: int = 0) -> Scale:
    """Return the scale from a person's height.

    Args:
        sequence: Poses in pixels.
        height_m: The person's height.
        person: Place of the person, 0 .. P-1.

    Raises:
        OptionError: If the height is impossible, or the person's legs and trunk are never seen together.
    """
    if not 0.4 <= height_m <= 2.8:
        raise OptionError(f"a height of {height_m} m", expected="0.4 to 2.8 meters")
    pixels = stature_px(sequence, person)
    if not pixels > 0:
        raise OptionError(
            "the person's height in pixels is unknown, because legs and trunk are not seen",
            hint="give a known length or another person",
        )
    # Proportions of people differ from the table by about 3 % (standard deviation of leg length over stature).
    return Scale(height_m / pixels, 0.03, source=f"a height of {height_m:g} m over {pixels:.0f} px")


def scale_from_length(
    first_px: tuple[float, float], second_px: tuple[float, float], length_m: float, *, error_px: float = 2.0
) -> Scale:
    """Return the scale from two points of the image and their distance.

    Example:
        >>> scale_from_length((100, 50), (300, 50), 1.0).meters_per_px
        0.005
    """
    pixels = float(np.hypot(second_px[0] - first_px[0], second_px[1] - first_px[1]))
    if not length_m > 0 or not pixels > 0:
        raise OptionError(f"a length of {length_m} m over {pixels:g} px", expected="two points and a positive length")
    share = error_px * np.sqrt(2) / pixels
    return Scale(length_m / pixels, float(share), source=f"a known length of {length_m:g} m over {pixels:.0f} px")


def floor_of(sequence: PoseSequence, person: int = 0) -> tuple[float, tuple[float, float]]:
    """Return angle (degrees, counterclockwise) and origin (pixels) of the floor, from where the feet stand still.

    The floor is the line through the feet at rest (slower than a tenth of the leg's length in a tenth of a second),
    by the Theil-Sen median of slopes; the origin is where the first foot stands. A person who stays in one place gives
    no slope: then it is 0. (0, 0) of the image if no foot is ever at rest.
    """
    one = sequence.select([person])
    names = [f"{s}_{part}" for s in ("left", "right") for part in ("big_toe", "ankle")]
    points = body_points(one, [*names, "left_knee", "right_knee", "mid_hip"])
    part = "big_toe" if "left_big_toe" in points else "ankle"
    resting: list[np.ndarray] = []
    legs = []
    for side in ("left", "right"):
        if f"{side}_{part}" not in points or f"{side}_knee" not in points:
            return 0.0, (0.0, 0.0)
        legs.append(2 * np.hypot(*(points[f"{side}_ankle"] - points[f"{side}_knee"])[:, 0].T))
    leg = float(np.nanmedian(np.concatenate(legs))) if np.isfinite(np.concatenate(legs)).any() else float("nan")
    if not leg > 0 or one.num_frames < 3:
        return 0.0, (0.0, 0.0)
    for side in ("left", "right"):
        foot = points[f"{side}_{part}"][:, 0]
        speed = np.hypot(*derivative(foot, one.timestamps_s).T)
        rows = np.flatnonzero(speed < leg)
        resting.append(np.column_stack([one.timestamps_s[rows], foot[rows]]))
    feet = np.concatenate(resting)
    if not len(feet):
        return 0.0, (0.0, 0.0)
    first = feet[np.argmin(feet[:, 0])]
    x = feet[:, 1]
    angle = 0.0
    hips = points["mid_hip"][:, 0, 0] if "mid_hip" in points else x
    hips = hips[np.isfinite(hips)]
    # Only travel reveals the slope: feet that open toward the camera stand at different heights, too.
    if len(hips) and np.ptp(hips) > leg and np.ptp(x) > leg:
        # Feet at the same place carry no information on the slope: one level for each half of a leg's length.
        cells = np.floor((x - x.min()) / (leg / 2)).astype(int)
        order = np.argsort(cells, kind="stable")
        places = np.split(feet[order, 1:], np.flatnonzero(np.diff(cells[order])) + 1)
        middle = np.array([row_medians(place.T) for place in places])
        if len(middle) >= 2:
            i, j = np.triu_indices(len(middle), 1)
            slope = float(np.median((middle[j, 1] - middle[i, 1]) / (middle[j, 0] - middle[i, 0])))
            angle = -float(np.degrees(np.arctan(slope)))
    return angle, (float(first[1]), float(first[2]))


def to_meters(sequence: PoseSequence, scale: Scale) -> PoseSequence:
    """Convert coordinates to meters: x along the floor, y up, from the origin.

    Raises:
        OptionError: If the sequence is in meters already, or the scale is not positive.

    Example:
        >>> from featherpose.skeleton import Skeleton
        >>> dot = Skeleton.create("dot", ["tip"], [])
        >>> sequence = PoseSequence.from_arrays(np.array([[[300.0, 100.0]]]), np.zeros(1), dot)
        >>> to_meters(sequence, Scale(0.01, 0.0, origin_px=(100, 200))).keypoints[0, 0, 0]
        array([2., 1.])
    """
    if sequence.unit != "px":
        raise OptionError("the sequence is in meters already", expected="pixels")
    if not 0 < scale.meters_per_px < 1e3:
        raise OptionError(f"{scale.meters_per_px} meters per pixel", expected="a positive number")
    x = sequence.keypoints[..., 0] - scale.origin_px[0]
    y = scale.origin_px[1] - sequence.keypoints[..., 1]
    angle = np.radians(scale.floor_deg)
    turned = np.stack([x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)], -1)
    step = Step(
        "to_meters",
        {"meters_per_px": scale.meters_per_px, "floor_deg": scale.floor_deg,
         "origin_x_px": scale.origin_px[0], "origin_y_px": scale.origin_px[1]},
        int(sequence.found.sum()),
        f"scaled by {scale.meters_per_px:.6f} m/px ({scale.source or 'given'}), floor at {scale.floor_deg:.1f} degrees",
    )  # fmt: skip
    return sequence.changed(turned * scale.meters_per_px, step, unit="m")


def read_calibration(
    path: str | Path, camera: str | None = None, *, image_size: tuple[int, int] | None = None
) -> Scale:
    """Return the scale at the origin of a calibrated camera, from a Pose2Sim calibration file (TOML).

    The file holds one table a camera with ``matrix`` (3x3), ``rotation`` (Rodrigues vector, world to camera),
    ``translation`` (meters) and ``size``; the world's third axis points up. The plane of movement is assumed to pass
    through the origin, parallel to the image.

    Args:
        path: The file.
        camera: Name of the table; needed if there are several.
        image_size: (width, height) of the images that are measured; those of a smaller or larger copy of the video are
            scaled. Taken to be that of the calibration unless given.

    Raises:
        SourceError: If the file cannot be read or holds no such camera.
        OptionError: If it holds several cameras and none is named, or belongs to images of another shape.
    """
    path = Path(path)
    try:
        data = parse_toml(read_document(path, Limits().max_bytes))
    except ParseError as error:
        raise SourceError(f"{path} cannot be read as a calibration: it {error}") from error
    cameras = {name: table for name, table in data.items() if isinstance(table, dict) and "matrix" in table}
    if not cameras or (camera is not None and camera not in cameras):
        raise SourceError(
            f"{path} holds no camera {camera or ''}".rstrip(),
            expected=f"one of {', '.join(cameras) or 'matrix, rotation, translation'}",
        )
    if camera is None and len(cameras) > 1:
        raise OptionError(f"{path} holds {len(cameras)} cameras", expected=" or ".join(cameras))
    table = cameras[camera or next(iter(cameras))]
    try:
        size = np.asarray(table.get("size", (0, 0)), np.float64).reshape(2)
        matrix = np.asarray(table["matrix"], np.float64).reshape(3, 3)
        vector = np.asarray(table["rotation"], np.float64).reshape(3)
        translation = np.asarray(table["translation"], np.float64).reshape(3)
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"{path} is not a Pose2Sim calibration ({reason_of(error)})",
            expected="matrix, rotation and translation of a camera",
        ) from error
    if not np.abs(np.concatenate((matrix.ravel(), vector, translation, size))).max() < _MOST:
        raise SourceError(f"{path} is not a Pose2Sim calibration", expected=f"finite numbers below {_MOST:.0e}")
    depth = translation[2]
    if not depth > 0 or not matrix[0, 0] > 0:
        raise SourceError(f"{path} puts the origin behind the camera", expected="a positive third translation")
    if image_size is not None and (size > 0).all():
        matrix = _resized(path, size, image_size) @ matrix
    rotation = _rodrigues(vector)
    origin = matrix @ translation
    origin = origin[:2] / origin[2]
    up = matrix @ (translation + 0.5 * rotation @ np.array([0.0, 0.0, 1.0]))
    above = up[:2] / up[2] - origin
    # The floor is at a right angle to the image of the upward axis; y of the image points down.
    floor = float(np.degrees(np.arctan2(-above[1], above[0]))) - 90
    return Scale(
        float(depth / np.sqrt(matrix[0, 0] * matrix[1, 1])),
        0.01,
        (floor + 180) % 360 - 180,
        (float(origin[0]), float(origin[1])),
        f"the calibration {path.name}",
    )


def _resized(path: Path, size: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Return float64[3, 3]: from pixels of the calibrated images to pixels of others."""
    across, along = np.asarray(image_size) / size
    if not abs(across / along - 1) < _SAME_SHAPE:
        width, height = image_size
        raise OptionError(
            f"{path} belongs to images of {size[0]:.0f}x{size[1]:.0f}, and the video has {width}x{height}",
            hint="take the calibration of this camera, or a known length",
        )
    # Areas are mapped, and pixel centers are whole numbers.
    return np.array([[across, 0, (across - 1) / 2], [0, along, (along - 1) / 2], [0, 0, 1]])


def _rodrigues(vector: np.ndarray) -> np.ndarray:
    angle = float(np.linalg.norm(vector))
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)
