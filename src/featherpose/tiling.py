"""Small and far people: overlapping views of one image, whose maps are blended before decoding.

The network looks at tiles of the enlarged image. Their maps are blended into one large map, and that is decoded
once: a person on a border is assembled like any other, and not as two halves that would have to be matched afterwards.
People too large for a tile come from a view of the whole image; people found at both scales are matched by object
keypoint similarity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from jaxtyping import Float32, UInt8

from featherpose.errors import OptionError
from featherpose.geometry import Letterbox
from featherpose.methods.method import Arrays, Output
from featherpose.oks import mutual_oks
from featherpose.poses import Poses
from featherpose.preprocess import fit, prepare

__all__ = ["TileOptions", "TilePlan", "merge_scales", "stitch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TileOptions:
    """Options of tiling.

    Attributes:
        rows: Tiles from top to bottom, each of the estimator's input height: people half as high as before are found
            with 2. Time grows with ``rows * columns``.
        columns: Tiles from left to right.
        overlap_px: Network pixels that neighboring tiles share at least. More shows people on the border whole, and
            costs time.
        whole: Whether the whole image is processed as well, for people larger than a tile.
        same_person_oks: People of both scales who are at least this similar are one. Lower merges people who stand
            close, higher leaves doubles.

    Raises:
        OptionError: If a value is outside its range.
    """

    rows: int = 2
    columns: int = 2
    overlap_px: int = 64
    whole: bool = True
    same_person_oks: float = 0.5

    def __post_init__(self) -> None:
        for name, count in (("rows", self.rows), ("columns", self.columns)):
            if not 1 <= count <= 32:
                raise OptionError(f"{count} {name} of tiles", expected="1 to 32")
        if not 0 <= self.overlap_px <= 1024:
            raise OptionError(f"overlap of {self.overlap_px} pixels", expected="0 to 1024")
        if not 0 < self.same_person_oks <= 1:
            raise OptionError(f"similarity {self.same_person_oks}", expected="over 0, at most 1")


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Positions of the tiles of one image.

    Attributes:
        letterbox: The whole image at the scale of the tiles.
        tile_size: (width, height) of every tile in network pixels.
        origins: (x, y) of each tile in network pixels of the whole.
        overlap_px: Network pixels over which neighbors are blended.

    Example:
        >>> plan = TilePlan.fit((1280, 720), height=256, size_multiple=8, options=TileOptions())
        >>> plan.letterbox.network_size, plan.tile_size
        ((800, 448), (432, 256))
        >>> plan.origins
        ((0, 0), (368, 0), (0, 192), (368, 192))
    """

    letterbox: Letterbox
    tile_size: tuple[int, int]
    origins: tuple[tuple[int, int], ...]
    overlap_px: int

    @classmethod
    def fit(cls, source_size: tuple[int, int], *, height: int, size_multiple: int, options: TileOptions) -> TilePlan:
        """Cover an image with ``options.rows`` x ``options.columns`` tiles of the given input height.

        An image too narrow for that many columns of overlapping tiles gets fewer.
        """
        overlap = ceil(options.overlap_px / size_multiple) * size_multiple
        tile_height = ceil(height / size_multiple) * size_multiple
        overlap = min(overlap, (tile_height // 2) // size_multiple * size_multiple)
        letterbox = fit(
            source_size, height=options.rows * tile_height - (options.rows - 1) * overlap, size_multiple=size_multiple
        )
        width, rows = letterbox.network_size
        tile_width = ceil((width + (options.columns - 1) * overlap) / options.columns / size_multiple) * size_multiple
        tile_width = min(width, max(tile_width, 2 * overlap, size_multiple))
        tile_height = min(rows, tile_height)
        xs = _starts(width, tile_width, overlap, size_multiple)
        ys = _starts(rows, tile_height, overlap, size_multiple)
        return cls(letterbox, (tile_width, tile_height), tuple((x, y) for y in ys for x in xs), overlap)

    def cut(
        self, image: UInt8[np.ndarray, "H W 3"], *, size_multiple: int, pad_value: int
    ) -> UInt8[np.ndarray, "T h w 3"]:
        """Return the tiles as one batch: the image is resized once and cut afterwards."""
        whole, _ = prepare(
            image, height=self.letterbox.network_size[1], size_multiple=size_multiple, pad_value=pad_value
        )
        width, rows = self.tile_size
        return np.stack([whole[0, y : y + rows, x : x + width] for x, y in self.origins])


def _starts(length: int, tile: int, overlap: int, multiple: int) -> list[int]:
    """Return evenly spread origins of the fewest tiles that cover a length and overlap enough."""
    if tile >= length:
        return [0]
    count = 1 + ceil((length - tile) / (tile - overlap))
    last = length - tile
    return [round(index * last / (count - 1) / multiple) * multiple for index in range(count)]


def stitch(tiles: Sequence[Arrays], plan: TilePlan, outputs: Sequence[Output]) -> Arrays:
    """Blend the outputs of tiles over their overlaps into one set for the whole image.

    Args:
        tiles: Outputs of each tile in the order of ``plan.origins``.
        plan: Where the tiles lie.
        outputs: The network's outputs, with their strides.
    """
    if len(tiles) == 1:
        return tiles[0]
    return {o.name: _blend([tile[o.name] for tile in tiles], plan, o.stride) for o in outputs}


def _blend(tiles: list[Float32[np.ndarray, "C h w"]], plan: TilePlan, stride: int) -> Float32[np.ndarray, "C H W"]:
    width, rows = (pixels // stride for pixels in plan.letterbox.network_size)
    total = np.zeros((tiles[0].shape[0], rows, width), np.float32)
    weights = np.zeros((rows, width), np.float32)
    weight = np.outer(*(_ramp(cells, plan.overlap_px / stride) for cells in tiles[0].shape[1:]))
    for (x, y), tile in zip(plan.origins, tiles, strict=True):
        window = np.s_[y // stride : y // stride + weight.shape[0], x // stride : x // stride + weight.shape[1]]
        total[:, window[0], window[1]] += tile * weight
        weights[window] += weight
    total /= weights
    return total


def _ramp(cells: int, overlap: float) -> Float32[np.ndarray, " n"]:
    """Return the weight of each cell of a tile: lower towards its borders, where the network sees less context."""
    from_border = np.minimum(np.arange(cells), np.arange(cells)[::-1]) + 0.5
    return np.minimum(from_border / max(overlap, 0.5), 1).astype(np.float32)


def merge_scales(fine: Poses, coarse: Poses, *, same_person_oks: float = 0.5) -> Poses:
    """Merge people found at two scales of one image, so that each occurs once.

    Of a person found at both scales, the better ranked one stays and takes over the keypoints that only the other has.
    One person of one scale is matched with at most one of the other, the most similar pairs first; a fragment of a
    person already matched is dropped.

    Args:
        fine: From the tiles.
        coarse: From the whole image; same skeleton and image size.
        same_person_oks: Similarity from which on two are the same.

    Returns:
        Everyone, best first.
    """
    if not len(fine) or not len(coarse):
        return coarse if not len(fine) else fine
    similarity = mutual_oks(fine, coarse)
    keypoints = np.concatenate((fine.keypoints, coarse.keypoints))
    keypoint_scores = np.concatenate((fine.keypoint_scores, coarse.keypoint_scores))
    scores = np.concatenate((fine.scores, coarse.scores))
    kept = np.ones(len(scores), bool)
    matched = np.zeros(len(scores), bool)
    for flat in np.argsort(-similarity, axis=None, kind="stable"):
        one, other = divmod(int(flat), len(coarse))
        if similarity[one, other] < same_person_oks:
            break
        other += len(fine)
        if not (kept[one] and kept[other]):
            continue
        winner, loser = (one, other) if scores[one] >= scores[other] else (other, one)
        kept[loser] = False
        if not (matched[one] or matched[other]):
            lacking = np.isnan(keypoints[winner, :, 0])
            keypoints[winner, lacking] = keypoints[loser, lacking]
            keypoint_scores[winner, lacking] = keypoint_scores[loser, lacking]
        matched[[one, other]] = True
    order = np.argsort(-scores, kind="stable")
    order = order[kept[order]]
    return replace(
        fine, keypoints=keypoints[order], keypoint_scores=keypoint_scores[order], scores=scores[order], track_ids=None
    )
