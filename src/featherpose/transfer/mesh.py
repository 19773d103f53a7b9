"""Bending a cut-out limb without tearing it, and drawing triangles of a picture where they have moved to.

A limb is bent around its middle joint by angular skinning: a point turns with the share of the bend that its direction,
seen from the joint, gives it. In polar coordinates around the joint the map is (r, a) -> (r, a + turn(r, a)), whose
determinant is 1 + d turn / d a. The share falls linearly over an angle of at least the bend itself, so the determinant
stays positive for every bend under `MAX_BEND`. Triangles of finite size may still turn over at the sharpest bends;
`flipped` counts them, and the puppet then bends a little less.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt8

from featherpose.jit import kernel

__all__ = ["MAX_BEND", "bend_limb", "draw_mesh", "draw_mesh_slowly", "flipped", "grid_mesh"]

MAX_BEND = 0.92 * np.pi
"""Largest bend in radians; a forearm that lies nearer to the upper arm is drawn with this bend."""

_LEAST_BAND, _WIDEST_BAND = np.pi / 3, 0.98 * np.pi
_BEND_OF_BAND = 0.72
_STRETCH = (0.5, 1.4)


def grid_mesh(
    region: UInt8[np.ndarray, "H W"], step: int
) -> tuple[Float64[np.ndarray, "V 2"], Int32[np.ndarray, "F 3"]]:
    """Cover a region by triangles: the squares of a grid that it touches, each cut in two.

    Args:
        region: uint8[H, W], over 0 inside.
        step: Side of the squares in pixels.

    Returns:
        Vertices (x, y) in pixels, and triangles as their indices.

    Example:
        >>> vertices, triangles = grid_mesh(np.ones((9, 9), np.uint8), 8)
        >>> len(vertices), len(triangles)
        (9, 8)
    """
    height, width = region.shape
    rows, columns = -(-height // step), -(-width // step)
    padded = np.zeros((rows * step, columns * step), bool)
    padded[:height, :width] = region > 0
    cells = padded.reshape(rows, step, columns, step).any((1, 3))
    number = np.full((rows + 1, columns + 1), -1, np.int32)
    r, c = np.nonzero(cells)
    for dr, dc in ((0, 0), (0, 1), (1, 0), (1, 1)):
        number[r + dr, c + dc] = 0
    used = np.argwhere(number == 0)
    number[used[:, 0], used[:, 1]] = np.arange(len(used))
    a, b, d, e = number[r, c], number[r, c + 1], number[r + 1, c], number[r + 1, c + 1]
    triangles = np.concatenate((np.stack((a, b, d), -1), np.stack((b, e, d), -1))).astype(np.int32)
    return used[:, ::-1].astype(np.float64) * step - 0.5, triangles


def bend_limb(
    vertices: Float64[np.ndarray, "V 2"], rest: Float64[np.ndarray, "3 2"], pose: Float64[np.ndarray, "3 2"],
    ease: float = 1.0,
) -> Float64[np.ndarray, "V 2"]:  # fmt: skip
    """Move the vertices of a limb of two bones.

    Args:
        vertices: (x, y) in the picture.
        rest: The limb's joints in the picture: first, middle, last.
        pose: Where they go; the first is met exactly, the others up to `MAX_BEND` and stretches of 0.5 to 1.4.
        ease: 1 for all of it; less bends and stretches less.

    Example:
        >>> joints = np.array([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]])
        >>> raised = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, -10.0]])
        >>> bend_limb(joints, joints, raised).round(6) + 0
        array([[  0.,   0.],
               [ 10.,   0.],
               [ 10., -10.]])
    """
    bones, targets = np.diff(rest, axis=0), np.diff(pose, axis=0)
    lengths = np.maximum(np.hypot(*bones.T), 1e-6)
    axes = bones / lengths[:, None]
    stretch = np.clip(np.hypot(*targets.T) / lengths, *_STRETCH)
    stretch = 1 + ease * (stretch - 1)
    turns = [_angle(targets[i]) - _angle(bones[i]) for i in range(2)]
    bend = float(np.clip(_wrapped(turns[1] - turns[0]), -MAX_BEND, MAX_BEND)) * ease
    local = vertices - rest[1]
    # Directions from the joint, from 0 along the outer bone to pi along the inner one.
    inner = np.abs(_wrapped(np.arctan2(local[:, 1], local[:, 0]) - _angle(-bones[0])))
    outer = np.abs(_wrapped(np.arctan2(local[:, 1], local[:, 0]) - _angle(bones[1])))
    direction = np.pi * outer / np.maximum(inner + outer, 1e-9)
    band = float(np.clip(abs(bend) / _BEND_OF_BAND, _LEAST_BAND, _WIDEST_BAND))
    share = np.clip(0.5 - (direction - np.pi / 2) / band, 0, 1)
    outermost = direction < np.pi / 2
    radius = np.hypot(*local.T)
    across = np.where(outermost, np.abs(_cross(axes[1], local)), np.abs(_cross(axes[0], local)))
    near = radius < 0.5 * lengths.min()
    half = max(1.0, float(across[near].max(initial=0.0)))
    fade = np.clip((2.4 * half - radius) / (1.1 * half), 0, 1)
    share = fade * share + (1 - fade) * outermost
    stretched = (
        local
        + ((stretch[0] - 1) * np.minimum(local @ axes[0], 0))[:, None] * axes[0]
        + ((stretch[1] - 1) * np.maximum(local @ axes[1], 0))[:, None] * axes[1]
    )
    angles = turns[0] + bend * share
    c, s = np.cos(angles), np.sin(angles)
    turned = np.stack((c * stretched[:, 0] - s * stretched[:, 1], s * stretched[:, 0] + c * stretched[:, 1]), -1)
    first = _turned(bones[0] * stretch[0], turns[0])
    return np.asarray(pose[0] + first + turned)


def flipped(
    vertices: Float64[np.ndarray, "V 2"], moved: Float64[np.ndarray, "V 2"], triangles: Int32[np.ndarray, "F 3"]
) -> int:
    """Count the triangles that have turned over."""
    return int((_areas(vertices, triangles) * _areas(moved, triangles) <= 0).sum())


def _areas(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    return np.asarray(_cross(b - a, c - a))


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])


def _angle(vector: np.ndarray) -> float:
    return float(np.arctan2(vector[1], vector[0]))


def _wrapped(angle: np.ndarray | float) -> np.ndarray:
    return np.asarray((np.asarray(angle) + np.pi) % (2 * np.pi) - np.pi)


def _turned(vector: np.ndarray, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([c * vector[0] - s * vector[1], s * vector[0] + c * vector[1]])


def draw_mesh(
    canvas: UInt8[np.ndarray, "H W 4"], texture: UInt8[np.ndarray, "h w 4"], vertices: Float64[np.ndarray, "V 2"],
    moved: Float64[np.ndarray, "V 2"], triangles: Int32[np.ndarray, "F 3"],
) -> None:  # fmt: skip
    """Draw the triangles of a picture where their vertices have moved to, over what is there, in place.

    Args:
        canvas: uint8[H, W, 4], BGRA with colors multiplied by alpha.
        texture: uint8[h, w, 4], likewise.
        vertices: (x, y) in the texture.
        moved: (x, y) in the canvas.
        triangles: Indices of their corners.
    """
    if not len(triangles):
        return
    low = np.floor(moved.min(0)).astype(int)
    high = np.ceil(moved.max(0)).astype(int) + 1
    x0, y0 = (int(v) for v in np.clip(low, 0, (canvas.shape[1], canvas.shape[0])))
    x1, y1 = (int(v) for v in np.clip(high + 1, 0, (canvas.shape[1], canvas.shape[0])))
    if x0 >= x1 or y0 >= y1:
        return
    layer = np.zeros((y1 - y0, x1 - x0, 4), np.uint8)
    local = (moved - (x0, y0)).astype(np.float32)
    _rasterize(layer, texture, vertices.astype(np.float32), local, triangles)
    _over(canvas[y0:y1, x0:x1], layer)


@kernel
def _rasterize(layer, texture, vertices, moved, triangles):  # type: ignore[no-untyped-def]
    """Fill the layer: each pixel whose center lies in a triangle takes the texture's color there, bilinear."""
    height, width = layer.shape[:2]
    last_row, last_column = texture.shape[0] - 1, texture.shape[1] - 1
    slack = np.float32(-1e-4)
    for f in range(triangles.shape[0]):
        i, j, k = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        ax, ay = moved[i, 0], moved[i, 1]
        bx, by = moved[j, 0], moved[j, 1]
        cx, cy = moved[k, 0], moved[k, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        inverse = np.float32(1) / area
        left = max(0, int(np.ceil(min(ax, bx, cx) - 1e-3)))
        right = min(width - 1, int(np.floor(max(ax, bx, cx) + 1e-3)))
        top = max(0, int(np.ceil(min(ay, by, cy) - 1e-3)))
        bottom = min(height - 1, int(np.floor(max(ay, by, cy) + 1e-3)))
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                wb = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) * inverse
                wc = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) * inverse
                wa = np.float32(1) - wb - wc
                if wa < slack or wb < slack or wc < slack:
                    continue
                u = wa * vertices[i, 0] + wb * vertices[j, 0] + wc * vertices[k, 0]
                v = wa * vertices[i, 1] + wb * vertices[j, 1] + wc * vertices[k, 1]
                u = min(max(u, np.float32(0)), np.float32(last_column))
                v = min(max(v, np.float32(0)), np.float32(last_row))
                column, row = int(u), int(v)
                du, dv = u - column, v - row
                right_column, lower_row = min(column + 1, last_column), min(row + 1, last_row)
                for channel in range(4):
                    upper = texture[row, column, channel] * (1 - du) + texture[row, right_column, channel] * du
                    lower = (
                        texture[lower_row, column, channel] * (1 - du) + texture[lower_row, right_column, channel] * du
                    )
                    layer[y, x, channel] = np.uint8(upper * (1 - dv) + lower * dv + np.float32(0.5))


@kernel
def _over(canvas, layer):  # type: ignore[no-untyped-def]
    """Blend one premultiplied picture over another, in place."""
    for y in range(layer.shape[0]):
        for x in range(layer.shape[1]):
            rest = 255 - np.int32(layer[y, x, 3])
            if rest == 255:
                continue
            for c in range(4):
                canvas[y, x, c] = np.uint8(np.int32(layer[y, x, c]) + (np.int32(canvas[y, x, c]) * rest + 127) // 255)


def draw_mesh_slowly(
    canvas: UInt8[np.ndarray, "H W 4"], texture: UInt8[np.ndarray, "h w 4"], vertices: Float64[np.ndarray, "V 2"],
    moved: Float64[np.ndarray, "V 2"], triangles: Int32[np.ndarray, "F 3"],
) -> Float32[np.ndarray, "H W 4"]:  # fmt: skip
    """Return what `draw_mesh` makes of a canvas: each triangle's affine map solved and sampled for itself."""
    layer = np.zeros(canvas.shape, np.float64)
    rows, columns = np.indices(canvas.shape[:2])
    places = np.stack((columns, rows, np.ones_like(rows)), -1).reshape(-1, 3).astype(np.float64)
    for corners in triangles:
        target = np.column_stack((moved[corners], np.ones(3)))
        if abs(np.linalg.det(target)) < 1e-9:
            continue
        weights = places @ np.linalg.inv(target)
        inside = (weights >= -1e-4).all(1)
        uv = np.clip(weights[inside] @ vertices[corners], 0, np.array(texture.shape[1::-1]) - 1)
        low = np.minimum(np.floor(uv).astype(int), np.maximum(np.array(texture.shape[1::-1]) - 2, 0))
        du, dv = (uv - low).T[..., None]
        x, y = low.T
        value = (texture[y, x] * (1 - du) + texture[y, x + 1] * du) * (1 - dv) + (
            texture[y + 1, x] * (1 - du) + texture[y + 1, x + 1] * du
        ) * dv
        layer.reshape(-1, 4)[np.flatnonzero(inside)] = value
    return np.asarray(layer + canvas * (1 - layer[..., 3:] / 255), np.float32)
