"""Crowds of real people: photographs cut out around one person each, and videos side by side, in one image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.data.coco import read_coco
from featherpose.errors import DatasetError, OptionError, SourceError
from featherpose.media.images import read_image
from featherpose.media.sources.find import open_source
from featherpose.skeleton import COCO_17

__all__ = ["Cutout", "VideoMosaic", "best_grid", "compose_crowd", "find_cutouts", "fit_crowd"]

_GRAY = 128
_PERSON_ASPECT = 0.6  # width to height of the tile that a standing person gets
_MIN_KEYPOINTS = 10


@dataclass(frozen=True, slots=True)
class Cutout:
    """One person of a photograph, with no other annotated person in the window.

    Attributes:
        path: The photograph.
        box: (left, top, right, bottom) around the person's keypoints, pixels.
    """

    path: Path
    box: tuple[float, float, float, float]


def find_cutouts(folder: Path) -> list[Cutout]:
    """Return people who stand alone in their part of a photograph, the most visible first.

    Args:
        folder: A COCO keypoint data set: ``annotations.json`` and the folder ``images``.

    Raises:
        DatasetError: If it is none, or no person in it stands alone.
    """
    found: list[tuple[int, int, Cutout]] = []
    for image in read_coco(folder / "annotations.json", folder / "images", COCO_17):
        boxes = [_grown_box(person) for person in image.keypoints]
        others = [*boxes, *(tuple(float(v) for v in box) for box in image.ignore_boxes)]
        for i, (person, box) in enumerate(zip(image.keypoints, boxes, strict=True)):
            visible = int(np.isfinite(person[:, 0]).sum())
            tall = box[3] - box[1] > 1.2 * (box[2] - box[0])
            alone = all(not _overlap(box, other) for j, other in enumerate(others) if j != i)
            if visible >= _MIN_KEYPOINTS and tall and alone:
                found.append((-visible, image.image_id, Cutout(image.path, box)))
    if not found:
        raise DatasetError(f"{folder} shows nobody who stands alone", expected="photographs of whole people")
    found.sort(key=lambda entry: entry[:2])
    return [cutout for _, _, cutout in found]


def _grown_box(person: np.ndarray) -> tuple[float, float, float, float]:
    """Extend a box: keypoints end at eyes and ankles, a person does not."""
    left, top = np.nanmin(person, axis=0)
    right, bottom = np.nanmax(person, axis=0)
    margin = 0.12 * max(right - left, bottom - top)
    return float(left - margin), float(top - margin), float(right + margin), float(bottom + margin)


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def best_grid(count: int, size: tuple[int, int], aspect: float) -> tuple[int, int]:
    """Return (columns, rows) that show ``count`` tiles of an aspect ratio (width / height) as large as possible.

    Example:
        >>> best_grid(20, (1280, 720), 0.6)
        (7, 3)
    """
    if count < 1:
        raise OptionError(f"{count} tiles", expected="at least one")
    options = [(-(-count // rows), rows) for rows in range(1, count + 1)]
    return max(options, key=lambda grid: min(size[1] / grid[1], size[0] / grid[0] / aspect))


def compose_crowd(
    cutouts: Sequence[Cutout], count: int, size: tuple[int, int] = (1280, 720)
) -> UInt8[np.ndarray, "H W 3"]:
    """Compose an image of ``count`` people, each in a tile; cutouts repeat when there are fewer of them.

    Args:
        cutouts: The people to show, in this order.
        count: Tiles.
        size: (width, height) of the image in pixels.

    Raises:
        SourceError: If a photograph cannot be read.
    """
    columns, rows = best_grid(count, size, _PERSON_ASPECT)
    tile_width, tile_height = size[0] // columns, size[1] // rows
    image = np.full((size[1], size[0], 3), _GRAY, np.uint8)
    for i in range(count):
        cutout = cutouts[i % len(cutouts)]
        left, top, right, bottom = cutout.box
        # The window has the tile's aspect ratio and holds the whole box in its middle.
        scale = min(tile_height / (bottom - top), tile_width / (right - left))
        x, y = (left + right) / 2 - tile_width / scale / 2, (top + bottom) / 2 - tile_height / scale / 2
        photograph = read_image(cutout.path)
        if scale < 0.5:  # an affine map reads four pixels only: shrink first, to avoid aliasing
            half = 1 / int(1 / scale)
            photograph = cv2.resize(photograph, None, fx=half, fy=half, interpolation=cv2.INTER_AREA)
            scale, x, y = scale / half, x * half, y * half
        matrix = np.array([[scale, 0, -x * scale], [0, scale, -y * scale]], np.float64)
        tile = cv2.warpAffine(photograph, matrix, (tile_width, tile_height), borderValue=(_GRAY,) * 3)
        row, column = divmod(i, columns)
        image[row * tile_height : (row + 1) * tile_height, column * tile_width : (column + 1) * tile_width] = tile
    return image


def fit_crowd(
    cutouts: Sequence[Cutout],
    people: int,
    count_people: Callable[[UInt8[np.ndarray, "H W 3"]], int],
    size: tuple[int, int] = (1280, 720),
) -> tuple[UInt8[np.ndarray, "H W 3"], int]:
    """Compose an image in which a network finds the wanted number of people, or as near to it as some tries come.

    Photographs show more people than are annotated and a network misses some. The work of post-processing follows from
    the people that the network finds, so that number is fitted.

    Args:
        cutouts: The people to show.
        people: How many should be found.
        count_people: Finds them.
        size: (width, height) of the image in pixels.

    Returns:
        The image and the number of people that were found in it.
    """
    tried: dict[int, tuple[UInt8[np.ndarray, "H W 3"], int]] = {}
    tiles = people
    for _ in range(8):
        tiles = max(1, tiles)
        if tiles in tried:
            break
        image = compose_crowd(cutouts, tiles, size)
        tried[tiles] = image, count_people(image)
        found = tried[tiles][1]
        if found == people:
            break
        step = round(tiles * people / max(found, 1)) - tiles
        tiles += step or (1 if found < people else -1)
    return min(tried.values(), key=lambda entry: abs(entry[1] - people))


@dataclass(frozen=True, slots=True)
class VideoMosaic:
    """Videos side by side, each tile at another time: real motion, and as many people as there are tiles for.

    Attributes:
        videos: Files; they take turns over the tiles.
        tiles: How many; 1 shows the first video alone and unchanged in its proportions.
        size: (width, height) of the mosaic in pixels.
        frames: How many frames it has.
    """

    videos: tuple[Path, ...]
    tiles: int
    size: tuple[int, int] = (1280, 720)
    frames: int = 30

    def __post_init__(self) -> None:
        if not self.videos or self.tiles < 1 or self.frames < 1:
            raise OptionError(f"{len(self.videos)} videos on {self.tiles} tiles, {self.frames} frames", expected="some")

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """Yield uint8[H, W, 3] BGR frames.

        Raises:
            SourceError: If a video cannot be read.
        """
        # Tile i starts i * 3 frames later, so that no two tiles show the same moment.
        lag = 3
        first = [self._read(video, 1, None)[0] for video in self.videos]
        aspect = float(np.mean([frame.shape[1] / frame.shape[0] for frame in first]))
        columns, rows = best_grid(self.tiles, self.size, aspect)
        tile = self.size[0] // columns, self.size[1] // rows
        shown = [self._read(video, self.frames + lag * self.tiles, tile) for video in self.videos]
        for t in range(self.frames):
            frame = np.full((self.size[1], self.size[0], 3), _GRAY, np.uint8)
            for i in range(self.tiles):
                clip = shown[i % len(shown)]
                row, column = divmod(i, columns)
                image = clip[(t + lag * i) % len(clip)]
                top, left = row * tile[1], column * tile[0]
                frame[top : top + image.shape[0], left : left + image.shape[1]] = image
            yield frame

    @staticmethod
    def _read(video: Path, count: int, tile: tuple[int, int] | None) -> list[UInt8[np.ndarray, "H W 3"]]:
        frames = []
        with open_source(video) as source:
            for frame in islice(source, count):
                image = frame.image
                if tile is not None:
                    scale = min(tile[0] / image.shape[1], tile[1] / image.shape[0])
                    size = max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale))
                    image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
                frames.append(image)
        if not frames:
            raise SourceError(f"{video} has no frames", expected="a video")
        return frames
