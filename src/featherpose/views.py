"""What the network is shown of an image: the whole, overlapping tiles, several scales, the mirror image.

Outputs of several scales and of the mirrored image are averaged on one grid before anybody is counted, the ensemble
that Cao et al. 2017 (section 3.2) evaluate with. Tiles are joined as `featherpose.tiling` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from featherpose.errors import OptionError
from featherpose.geometry import Letterbox
from featherpose.methods.method import Arrays, Decoder, Output, find_candidates
from featherpose.methods.mirror import mirror_outputs
from featherpose.poses import Candidates, Poses
from featherpose.preprocess import MAX_HEIGHT_PX, MIN_HEIGHT_PX, prepare
from featherpose.runtime.backend import ModelSpec
from featherpose.tiling import TileOptions, TilePlan, merge_scales, stitch

__all__ = ["View", "ViewOptions", "average_views", "decode_views", "make_views"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewOptions:
    """Which views of an image the network sees.

    Attributes:
        height: Network input height in pixels; the width follows the image.
        scales: Multiples of the height; more than one averages their outputs on the grid of the largest one that is at
            most ``grid_scale``.
        mirror: Whether the mirrored image is seen as well, at each scale.
        tiles: Overlapping tiles instead of scales, for small and far people.

    Raises:
        OptionError: If a value is outside its range.

    Example:
        >>> ViewOptions(height=256, scales=(1.0, 1.5), mirror=True).heights
        (256, 384)
    """

    height: int = 256
    scales: tuple[float, ...] = (1.0,)
    mirror: bool = False
    tiles: TileOptions | None = None

    def __post_init__(self) -> None:
        check_height(self.height)
        if not 1 <= len(self.scales) <= 8 or not all(0.1 <= scale <= 10 for scale in self.scales):
            raise OptionError(f"scales {self.scales}", expected="one to eight numbers from 0.1 to 10")
        for height in self.heights:
            check_height(height)
        if self.tiles is not None and (len(self.scales) > 1 or self.mirror):
            raise OptionError("tiles together with several scales or the mirrored image", expected="one of them")

    @property
    def heights(self) -> tuple[int, ...]:
        """Return the network input height of each scale."""
        return tuple(round(self.height * scale) for scale in self.scales)


@dataclass(frozen=True, slots=True)
class View:
    """One input of the network.

    Attributes:
        network_input: uint8[B, h, w, 3]: the whole image, or (with a plan) its tiles.
        letterbox: How the whole image was resized.
        plan: Where the tiles lie.
        mirrored: Whether left and right are exchanged.
    """

    network_input: UInt8[np.ndarray, "B h w 3"]
    letterbox: Letterbox
    plan: TilePlan | None = None
    mirrored: bool = False


def make_views(image: UInt8[np.ndarray, "H W 3"], spec: ModelSpec, options: ViewOptions) -> list[View]:
    """Prepare everything that the network is shown of an image."""
    multiple, pad_value, tiles = spec.size_multiple, spec.pad_value, options.tiles
    views = []
    if spec.fixed_size is not None:
        if tiles is not None or options.scales != (1.0,):
            raise OptionError(
                f"tiles or scales with model {spec.name}",
                expected="neither: its file is bound to {} x {} pixels".format(*spec.fixed_size),
            )
        whole, letterbox = spec.prepare(image, height=options.height)
        views.append(View(whole, letterbox))
        if options.mirror:
            views.append(View(np.ascontiguousarray(whole[:, :, ::-1]), letterbox, mirrored=True))
        return views
    if any(output.stride == 0 for output in spec.outputs) and (tiles or options.mirror or len(options.scales) > 1):
        raise OptionError(
            f"tiles, several scales or the mirrored image with model {spec.name}",
            expected="one view: its outputs are no maps, which could be joined",
            hint="leave out --quality best and --tiles",
        )
    if tiles is not None:
        plan = TilePlan.fit(
            (image.shape[1], image.shape[0]), height=options.height, size_multiple=multiple, options=tiles
        )
        views.append(View(plan.cut(image, size_multiple=multiple, pad_value=pad_value), plan.letterbox, plan))
        if not tiles.whole:
            return views
    for height in options.heights:
        whole, letterbox = prepare(image, height=height, size_multiple=multiple, pad_value=pad_value)
        views.append(View(whole, letterbox))
        if options.mirror:
            # The padding is mirrored too; outputs of the mirror image are then exactly those of the image, turned.
            views.append(View(np.ascontiguousarray(whole[:, :, ::-1]), letterbox, mirrored=True))
    return views


def decode_views(
    views: Sequence[View],
    answers: Sequence[Sequence[Arrays]],
    outputs: Sequence[Output],
    decoder: Decoder,
    tiles: TileOptions | None,
    candidates: float | None = None,
) -> Poses:
    """Find the people of all views together.

    Args:
        views: What `make_views` made.
        answers: For each view the network's outputs for each image of its batch.
        outputs: What the outputs are.
        decoder: Turns one set of outputs into people.
        tiles: The tiles' options where there are tiles.
        candidates: Lowest score of ``Poses.candidates``; None for none.
    """
    joined: list[tuple[Arrays, Letterbox]] = []
    whole = [(view, answer[0]) for view, answer in zip(views, answers, strict=True) if view.plan is None]
    for view, answer in zip(views, answers, strict=True):
        if view.plan is not None:
            joined.append((stitch(answer, view.plan, outputs), view.letterbox))
    if len(whole) == 1:
        joined.append((whole[0][1], whole[0][0].letterbox))
    elif whole:
        grid = max((view.letterbox for view, _ in whole), key=lambda box: box.network_size[1])
        joined.append((average_views(whole, grid, outputs), grid))
    found = [decoder(arrays, letterbox) for arrays, letterbox in joined]
    poses = found[0]
    if len(found) > 1:
        assert tiles is not None
        poses = merge_scales(*found, same_person_oks=tiles.same_person_oks)
    if candidates is None:
        return poses
    places = [find_candidates(decoder, arrays, letterbox, candidates) for arrays, letterbox in joined]
    return replace(poses, candidates=Candidates.joined(places))


def average_views(
    answers: Sequence[tuple[View, Arrays]], grid: Letterbox, outputs: Sequence[Output]
) -> dict[str, Float32[np.ndarray, "C h w"]]:
    """Average outputs of several views of one image on the cells of one of them.

    Args:
        answers: Views and the network's outputs for them.
        grid: The view whose cells the result has.
        outputs: What the outputs are.

    Returns:
        For each output float32[C, h, w] on the grid.

    Example:
        >>> from featherpose.methods.heatmap import HEATMAP
        >>> from featherpose.skeleton import COCO_17
        >>> outputs = HEATMAP.outputs(COCO_17)
        >>> small, large = (Letterbox.fit((64, 64), height=h, multiple=8) for h in (32, 64))
        >>> views = [View(np.empty(0), box) for box in (small, large)]
        >>> ones = [{"heatmaps": np.ones((17, n, n), np.float32)} for n in (8, 16)]
        >>> average_views(list(zip(views, ones)), large, outputs)["heatmaps"].shape
        (17, 16, 16)
    """
    sums: dict[str, Float32[np.ndarray, "C h w"]] = {}
    for view, answer in answers:
        arrays = mirror_outputs(answer, outputs) if view.mirrored else answer
        for output in outputs:
            moved = _onto_grid(arrays[output.name], view.letterbox, grid, output)
            if output.name in sums:
                sums[output.name] += moved
            else:
                sums[output.name] = moved
    for total in sums.values():
        total /= len(answers)
    return sums


def _onto_grid(
    maps: Float32[np.ndarray, "C h w"], box: Letterbox, grid: Letterbox, output: Output
) -> Float32[np.ndarray, "C h w"]:
    """Sample maps at the cells of another view: cell → pixel of the image → cell, along each axis."""
    if box == grid:
        return maps.copy()
    width, height = (side // output.stride for side in grid.network_size)
    origin = output.first_cell_px
    corners = np.array([[0, 0], [1, 1]], np.float32) * output.stride + origin
    first, second = (box.forward(grid.inverse(corners)) - origin) / output.stride
    step = second - first
    matrix = np.array([[step[0], 0, first[0]], [0, step[1], first[1]]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = np.empty((len(maps), height, width), np.float32)
    for source, target in zip(maps, moved, strict=True):
        cv2.warpAffine(source, matrix, (width, height), dst=target, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return moved


def check_height(height: object) -> None:
    """Raise for a network input height that no image can have.

    Raises:
        OptionError: If it is no whole number, or outside the range.
    """
    if not isinstance(height, int) or not MIN_HEIGHT_PX <= height <= MAX_HEIGHT_PX:
        raise OptionError(f"height {height!r}", expected=f"a whole number of pixels from 8 to {MAX_HEIGHT_PX}")
