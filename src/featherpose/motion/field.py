"""Team view: positions of people on a field, from four or more of its points in the image (a homography).

A person stands where the feet are: the middle of the ankles, or the lowest keypoint without ankles. On the field's
plane this is exact; a person in the air is placed too far away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from featherpose.errors import OptionError
from featherpose.motion.cleaning.filters import FilterOptions, derivative, filter_values
from featherpose.motion.measures import Measure
from featherpose.motion.sequence import PoseSequence

__all__ = ["Field", "FieldTrack", "field_tracks", "heat_map", "parse_field"]


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """The mapping from image to field.

    Attributes:
        matrix: float64[3, 3], homography from pixels to meters.
        error_m: How far the given points are from where they are mapped, root mean square; 0 for exactly four, which
            always fit.
        points_px: The given points.
        points_m: The same on the field.
    """

    matrix: np.ndarray
    error_m: float
    points_px: tuple[tuple[float, float], ...]
    points_m: tuple[tuple[float, float], ...]

    @classmethod
    def from_points(cls, points_px: list[tuple[float, float]], points_m: list[tuple[float, float]]) -> Field:
        """Fit a homography by the normalized direct linear transform (Hartley & Zisserman 2004, algorithm 4.2).

        Raises:
            OptionError: If there are fewer than four points, or three of four lie on a line.

        Example:
            >>> field = Field.from_points([(0, 0), (100, 0), (100, 50), (0, 50)], [(0, 0), (20, 0), (20, 10), (0, 10)])
            >>> field.to_field(np.array([[50.0, 25.0]])).round(6)
            array([[10.,  5.]])
        """
        if len(points_px) != len(points_m) or len(points_px) < 4:
            raise OptionError(
                f"{len(points_px)} points of the image and {len(points_m)} of the field",
                expected="four or more of both",
            )
        a, b = np.asarray(points_px, np.float64), np.asarray(points_m, np.float64)
        ta, tb = _normalizing(a), _normalizing(b)
        na, nb = _apply(ta, a), _apply(tb, b)
        rows = []
        for (x, y), (u, v) in zip(na, nb, strict=True):
            rows += [[-x, -y, -1, 0, 0, 0, u * x, u * y, u], [0, 0, 0, -x, -y, -1, v * x, v * y, v]]
        _, sizes, vectors = np.linalg.svd(np.asarray(rows))
        matrix = np.linalg.inv(tb) @ vectors[-1].reshape(3, 3) @ ta
        if sizes[7] < 1e-6 * sizes[0] or abs(np.linalg.det(matrix / np.linalg.norm(matrix))) < 1e-15:
            raise OptionError("the points of the field lie on a line", expected="four corners of an area")
        error = float(np.sqrt(((_apply(matrix, a) - b) ** 2).sum(-1).mean()))
        return cls(matrix, error if len(a) > 4 else 0.0, tuple(map(tuple, a.tolist())), tuple(map(tuple, b.tolist())))

    def to_field(self, points_px: np.ndarray) -> np.ndarray:
        """Map pixels to places on the field, float64[..., 2], meters; NaN beyond its horizon."""
        return _apply(self.matrix, points_px)

    def meters_per_px(self, points_px: np.ndarray) -> np.ndarray:
        """Return float64[...]: how far one pixel of error moves a place on the field, in the worst direction."""
        step = 0.5
        moved = [self.to_field(points_px + np.array(d)) for d in ((step, 0), (-step, 0), (0, step), (0, -step))]
        jacobian = np.stack([moved[0] - moved[1], moved[2] - moved[3]], -1)
        safe = np.where(np.isfinite(jacobian).all((-1, -2))[..., None, None], jacobian, 0)
        return np.asarray(np.linalg.norm(safe, 2, axis=(-2, -1)))


@dataclass(frozen=True, slots=True, eq=False)
class FieldTrack:
    """One person on the field.

    Attributes:
        track_id: Id of the person.
        positions_m: float64[T, 2], smoothed; NaN where the person is not seen.
        speeds_m_s: float64[T].
        distance: Way covered while seen.
        top_speed: Highest speed that lasted for half a second.
        mean_speed: Distance over the time seen.
        seen_s: Time seen.
    """

    track_id: int
    positions_m: np.ndarray
    speeds_m_s: np.ndarray
    distance: Measure
    top_speed: Measure
    mean_speed: Measure
    seen_s: float


def field_tracks(
    sequence: PoseSequence, field: Field, *, cutoff_hz: float = 1.0, error_px: float = 4.0
) -> list[FieldTrack]:
    """Compute positions, distances and speeds of everyone.

    Args:
        sequence: Poses in pixels, cleaned.
        field: The mapping.
        cutoff_hz: Butterworth cut-off of the positions; steps sway the feet at about twice this.
        error_px: Standard deviation of the feet's place in the image.

    Raises:
        OptionError: If the sequence is in meters.
    """
    if sequence.unit != "px":
        raise OptionError("the sequence is in meters", expected="pixels, because the field has a scale of its own")
    feet = _feet(sequence)
    times = sequence.timestamps_s
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    out = []
    for p, track_id in enumerate(sequence.track_ids):
        places = field.to_field(feet[:, p])
        smooth = filter_values(places, times, FilterOptions(cutoff_hz=cutoff_hz))
        speeds = np.hypot(*derivative(smooth, times).T)
        moves = np.hypot(*np.diff(smooth, axis=0).T)
        near = np.diff(times) < 3 * step if len(times) > 1 else np.zeros(0, bool)
        usable = np.isfinite(moves) & near
        distance, seen = float(moves[usable].sum()), float(np.diff(times)[usable].sum())
        known = np.isfinite(smooth).all(-1)
        # The low pass keeps its bandwidth's share of the feet's error; a speed multiplies it by that frequency.
        spread = float(np.median(field.meters_per_px(feet[known, p]))) * error_px if known.any() else float("nan")
        left = spread * np.sqrt(min(1.0, 2 * cutoff_hz * step)) if step else float("nan")
        speed_error = float(np.hypot(left * 2 * np.pi * cutoff_hz / np.sqrt(3), field.error_m * 0.1))
        top = _lasting(speeds, max(1, round(0.5 / step))) if step else float("nan")
        out.append(
            FieldTrack(
                track_id,
                smooth,
                speeds,
                Measure(distance, "m", float(np.hypot(left * np.sqrt(2), field.error_m))),
                Measure(top, "m/s", speed_error),
                Measure(
                    distance / seen if seen else float("nan"), "m/s", left * np.sqrt(2) / seen if seen else float("nan")
                ),
                seen,
            )
        )
    return out


def heat_map(
    tracks: list[FieldTrack], *, cell_m: float = 1.0, smooth_m: float = 1.0
) -> tuple[np.ndarray, tuple[float, float]]:
    """Return seconds spent in each cell of the field, float64[H, W], and (x, y) of its first corner in meters."""
    each = [track.positions_m[np.isfinite(track.positions_m).all(-1)] for track in tracks]
    places = np.concatenate(each) if each else np.empty((0, 2))
    if not len(places):
        return np.zeros((1, 1)), (0.0, 0.0)
    shares = [np.full(len(own), track.seen_s / max(1, len(own))) for own, track in zip(each, tracks, strict=True)]
    low = np.floor(places.min(0) / cell_m) * cell_m - cell_m
    count = np.ceil((places.max(0) + cell_m - low) / cell_m).astype(int)
    if count.prod() > 4_000_000:
        raise OptionError(f"a heat map of {count[0]} x {count[1]} cells", hint="check the points of the field")
    cells = np.floor((places - low) / cell_m).astype(int)
    grid = np.zeros((count[1], count[0]))
    np.add.at(grid, (cells[:, 1], cells[:, 0]), np.concatenate(shares))
    return gaussian_filter(grid, smooth_m / cell_m), (float(low[0]), float(low[1]))


def parse_field(text: str) -> Field:
    """Parse ``x,y=X,Y x,y=X,Y ...``: points of the image in pixels and their places on the field in meters.

    Example:
        >>> parse_field("0,0=0,0 100,0=20,0 100,50=20,10 0,50=0,10").error_m
        0.0
    """
    image, ground = [], []
    for pair in text.split():
        try:
            left, right = pair.split("=")
            (x, y), (u, v) = (tuple(map(float, side.split(","))) for side in (left, right))
        except ValueError:
            raise OptionError(
                f"the point {pair!r} of the field cannot be understood", expected="x,y=X,Y such as 120,450=0,0"
            ) from None
        image.append((x, y))
        ground.append((u, v))
    return Field.from_points(image, ground)


def _feet(sequence: PoseSequence) -> np.ndarray:
    """Return float64[T, P, 2]: the middle of both ankles, one of them, or else below the lowest keypoint."""
    index = {name: i for i, name in enumerate(sequence.skeleton.keypoints)}
    points = sequence.keypoints
    there = np.isfinite(points[..., 1])
    ankles = [index[name] for name in ("left_ankle", "right_ankle") if name in index]
    if ankles:
        seen = there[:, :, ankles]
        count = seen.sum(-1)[..., None]
        total = np.where(seen[..., None], points[:, :, ankles], 0).sum(2)
        return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))
    lowest = np.where(there, points[..., 1], -np.inf).argmax(-1)
    return np.asarray(np.take_along_axis(points, lowest[..., None, None], 2)[:, :, 0])


def _lasting(speeds: np.ndarray, rows: int) -> float:
    """Return the highest speed that is held over this many rows."""
    if len(speeds) < rows:
        return float("nan")
    windows = np.lib.stride_tricks.sliding_window_view(speeds, rows).min(-1)
    known = windows[np.isfinite(windows)]
    return float(known.max()) if len(known) else float("nan")


def _normalizing(points: np.ndarray) -> np.ndarray:
    center = points.mean(0)
    spread = np.sqrt(((points - center) ** 2).sum(-1)).mean()
    s = np.sqrt(2) / spread if spread > 0 else 1.0
    return np.array([[s, 0, -s * center[0]], [0, s, -s * center[1]], [0, 0, 1]])


def _apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    x, y = points[..., 0], points[..., 1]
    w = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack(
            [
                (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / w,
                (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / w,
            ],
            -1,
        )
