"""A person in a still picture that moves: cut out, taken apart into limbs, and put together in any pose.

After "Photo Wake-Up" (Weng et al. 2019, arXiv 1812.02246) and "Animated Drawings" (Smith et al. 2023, arXiv
2303.12741), in two dimensions: trunk, head, arms and legs are layers of their own; each limb bends by angular skinning
(`featherpose.transfer.mesh`), the trunk stretches by an affine map, and the layers are drawn in order of depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float64, Int32, UInt8

from featherpose.augment.bodies import body_units, named_points
from featherpose.errors import OptionError, SourceError
from featherpose.motion.sequence import PoseSequence
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton
from featherpose.transfer.cutout import LIMB_CHAINS, cut_out, fill_background, label_limbs
from featherpose.transfer.depth import draw_order
from featherpose.transfer.mesh import bend_limb, draw_mesh, flipped, grid_mesh
from featherpose.transfer.retargeting import Body

__all__ = ["Puppet", "PuppetLayer", "joints_of"]

_GRID = 64  # squares along the height of a person
_EASE = (1.0, 0.85, 0.7, 0.5, 0.25, 0.0)
_WIDTH_STRETCH, _LENGTH_STRETCH = (0.45, 1.15), (0.6, 1.25)
_HEAD_TURN = np.pi / 3
# How far around the joint with the trunk a limb takes pixels of the trunk with it, for a trunk of 1.
_SOCKET = {"arm": 0.13, "leg": 0.20, "head": 0.16}
_Joints = dict[str, Float64[np.ndarray, "2"]]


@dataclass(frozen=True, slots=True, eq=False)
class PuppetLayer:
    """One part of a puppet.

    Attributes:
        name: ``trunk``, ``head``, ``left_arm``, ``right_arm``, ``left_leg`` or ``right_leg``.
        texture: uint8[H, W, 4], BGRA with colors multiplied by alpha, as large as the picture.
        vertices: float64[V, 2], pixels.
        triangles: int32[F, 3].
    """

    name: str
    texture: UInt8[np.ndarray, "H W 4"]
    vertices: Float64[np.ndarray, "V 2"]
    triangles: Int32[np.ndarray, "F 3"]


def joints_of(points: Float64[np.ndarray, "K 2"], skeleton: Skeleton) -> _Joints:
    """Name the joints of a pose that are there, with ``neck``, ``mid_hip`` and ``head``.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> sorted(joints_of(np.arange(34.0).reshape(17, 2), COCO_17))[:3]
        ['head', 'left_ankle', 'left_ear']
    """
    joints: _Joints = {}
    for name, ends in named_points(skeleton).items():
        point = points[list(ends)].mean(0)
        if np.isfinite(point).all():
            joints[name] = point
    face = [joints[n] for n in ("nose", "left_eye", "right_eye", "left_ear", "right_ear") if n in joints]
    if "head_top" in joints and "neck" in joints:
        joints["head"] = (joints["head_top"] + joints["neck"]) / 2
    elif face:
        joints["head"] = np.mean(face, 0)
    return joints


class Puppet:
    """A person of a picture who can be moved.

    Args:
        image: uint8[H, W, 3], BGR.
        joints: Name -> (x, y) in pixels: shoulders, hips, and elbows, wrists, knees and ankles of the limbs that are
            to move.
        mask: uint8[H, W], 255 on the person; cut out by the joints unless given.
        background: uint8[H, W, 3]; what the person covers is filled in from around unless given.

    Attributes:
        body: Proportions and place, for `retarget`.
        layers: The parts, by name.

    Raises:
        SourceError: If shoulders and hips are not both there, or the person cannot be cut out.
        OptionError: If mask or background have another size than the picture.
    """

    def __init__(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        joints: _Joints,
        *,
        mask: UInt8[np.ndarray, "H W"] | None = None,
        background: UInt8[np.ndarray, "H W 3"] | None = None,
    ) -> None:
        self.image = image
        self.joints = _completed(joints)
        self.unit = float(np.hypot(*(self.joints["neck"] - self.joints["mid_hip"])))
        for given, what in ((mask, "mask"), (background, "background")):
            if given is not None and given.shape[:2] != image.shape[:2]:
                raise OptionError(
                    f"a {what} of {given.shape[1]}x{given.shape[0]} pixels",
                    expected=f"the picture's {image.shape[1]}x{image.shape[0]}",
                )
        self.mask = cut_out(image, self.joints, self.unit) if mask is None else mask
        if not (self.mask > 127).any():
            raise SourceError("the mask is empty", expected="white where the person is")
        self.background = fill_background(image, self.mask) if background is None else background
        self.layers = self._cut()
        self.body = _body_of(self.joints)
        self._turned = False

    @classmethod
    def from_image(
        cls, image: UInt8[np.ndarray, "H W 3"], poses: Poses, *, mask: UInt8[np.ndarray, "H W"] | None = None,
        person: int | None = None,
    ) -> Puppet:  # fmt: skip
        """Make a puppet of somebody who was found in a picture.

        Args:
            image: The picture.
            poses: Who was found in it.
            mask: uint8[H, W], 255 on the person.
            person: Place of the person; the largest unless given.

        Raises:
            SourceError: If nobody was found, or too little of the person.
        """
        if not len(poses):
            raise SourceError("there is no person in the picture", hint="choose one that shows a whole person")
        units = np.nan_to_num(body_units(poses))
        which = int(np.argmax(units)) if person is None else person
        points = np.where((poses.keypoint_scores[which] > 0.05)[:, None], poses.keypoints[which], np.nan)
        return cls(image, joints_of(points.astype(np.float64), poses.skeleton), mask=mask)

    def _cut(self) -> dict[str, PuppetLayer]:
        labels, names = label_limbs(self.mask, self.joints, self.unit)
        step = max(4, round(self.unit * 3.4 / _GRID))
        rows, columns = np.indices(labels.shape)
        layers = {}
        for number, name in enumerate(names):
            region = labels == number
            alpha = self.mask.copy()
            colors = self.image
            if name == "trunk":
                region, colors = self._trunk_region(region, labels, names)
                alpha = np.where(region & (labels != number), np.uint8(255), alpha)
            else:
                # Around its socket the limb has its own copy of the trunk's pixels: no gap opens when it turns.
                at = self.joints["neck" if name == "head" else LIMB_CHAINS[name][0]]
                reach = _SOCKET[name.split("_")[-1]] * self.unit
                near = (columns - at[0]) ** 2 + (rows - at[1]) ** 2 <= reach**2
                region = region | (near & (labels == names.index("trunk")))
            # One pixel more inside the person: neighbors overlap instead of leaving a thin line.
            wide = cv2.dilate(region.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
            region = region | (wide & (labels >= 0))
            alpha = np.where(region, alpha, np.uint8(0)).astype(np.uint8)
            share = alpha[..., None].astype(np.uint16)
            texture = np.dstack((((colors * share + 127) // 255).astype(np.uint8), alpha))
            vertices, triangles = grid_mesh(alpha, step)
            layers[name] = PuppetLayer(name, texture, vertices, triangles)
        return layers

    def _trunk_region(
        self, region: np.ndarray, labels: np.ndarray, names: list[str]
    ) -> tuple[np.ndarray, UInt8[np.ndarray, "H W 3"]]:
        """Return the trunk with what arms cover of it, filled in from around."""
        corners = [self.joints[n] for n in ("left_shoulder", "right_shoulder", "right_hip", "left_hip")]
        hull = np.zeros(labels.shape, np.uint8)
        cv2.fillConvexPoly(hull, cv2.convexHull(np.rint(corners).astype(np.int32)), (1,))
        arms = [names.index(n) for n in ("left_arm", "right_arm") if n in names]
        covered = (hull > 0) & np.isin(labels, arms) & ~region
        if not covered.any():
            return region, self.image
        y0, x0 = np.maximum(np.argwhere(hull).min(0) - 8, 0)
        y1, x1 = np.argwhere(hull).max(0) + 9
        hole = (covered | ((labels != names.index("trunk")) & (hull == 0)))[y0:y1, x0:x1]
        part = cv2.inpaint(np.ascontiguousarray(self.image[y0:y1, x0:x1]), hole.astype(np.uint8), 5, cv2.INPAINT_TELEA)
        colors = self.image.copy()
        colors[y0:y1, x0:x1][covered[y0:y1, x0:x1]] = part[covered[y0:y1, x0:x1]]
        return region | covered, colors

    def reset(self) -> None:
        """Clear the remembered direction that the person faced."""
        self._turned = False

    def place(self, pose: _Joints) -> dict[str, Float64[np.ndarray, "V 2"]]:
        """Find where the vertices of every layer go.

        Args:
            pose: Name -> (x, y) in pixels of the picture. Limbs that lack a joint hang as in the picture.

        Raises:
            SourceError: If neither shoulders nor hips are known.
        """
        if "neck" not in pose or "mid_hip" not in pose:
            raise SourceError("a pose without shoulders or hips", expected="at least the trunk")
        names = self._sides(pose)
        trunk = self._trunk(pose, names)
        moved = {"trunk": _mapped(trunk, self.layers["trunk"].vertices)}
        down = pose["mid_hip"] - pose["neck"]
        rest_down = self.joints["mid_hip"] - self.joints["neck"]
        lean = _turn(rest_down, down)
        if "head" in self.layers:
            moved["head"] = self._head(pose, trunk, lean)
        for layer, chain in LIMB_CHAINS.items():
            if layer not in self.layers:
                continue
            rest = np.array([self.joints[name] for name in chain])
            first = _mapped(trunk, rest[:1])[0]
            moved[layer] = self._limb(self.layers[layer], rest, [names.get(n, n) for n in chain], pose, first, lean)
        return moved

    def _sides(self, pose: _Joints) -> dict[str, str]:
        """Joint of the picture -> joint of the pose that plays it: other sides when the person has turned around."""
        here = self.joints["left_shoulder"] - self.joints["right_shoulder"]
        if "left_shoulder" in pose and "right_shoulder" in pose:
            there = pose["left_shoulder"] - pose["right_shoulder"]
            along = pose["mid_hip"] - pose["neck"]
            rest_along = self.joints["mid_hip"] - self.joints["neck"]
            width = _cross(along, there) / max(float(along @ along), 1e-9)
            rest = _cross(rest_along, here) / max(float(rest_along @ rest_along), 1e-9)
            share = width * np.sign(rest)
            # With a margin, so that a person seen from the side does not alternate.
            self._turned = share < 0.12 if self._turned else share < -0.12
        if not self._turned:
            return {}
        swapped = {}
        for name in self.joints:
            side, _, rest_of = name.partition("_")
            if side in ("left", "right"):
                swapped[name] = f"{'right' if side == 'left' else 'left'}_{rest_of}"
        return swapped

    def _trunk(self, pose: _Joints, names: dict[str, str]) -> Float64[np.ndarray, "2 3"]:
        """Find an affine map that never mirrors: turned with the spine, stretched along and across it within limits."""
        down, rest_down = pose["mid_hip"] - pose["neck"], self.joints["mid_hip"] - self.joints["neck"]
        length = float(np.clip(np.hypot(*down) / np.hypot(*rest_down), *_LENGTH_STRETCH))
        widths = []
        for part in ("shoulder", "hip"):
            left, right = f"left_{part}", f"right_{part}"
            ends = pose.get(names.get(left, left)), pose.get(names.get(right, right))
            if ends[0] is not None and ends[1] is not None:
                axis = down / max(float(np.hypot(*down)), 1e-9)
                rest_axis = rest_down / np.hypot(*rest_down)
                there = abs(_cross(axis, ends[0] - ends[1]))
                here = abs(_cross(rest_axis, self.joints[left] - self.joints[right]))
                if here > 1:
                    widths.append((there / here, here))
        width = 1.0
        if widths:
            width = sum(ratio * weight for ratio, weight in widths) / sum(weight for _, weight in widths)
        width = float(np.clip(width, *_WIDTH_STRETCH))
        u = rest_down / np.hypot(*rest_down)
        v = np.array([-u[1], u[0]])
        to = _rotation(_turn(rest_down, down))
        matrix = to @ (length * np.outer(u, u) + width * np.outer(v, v))
        middle = (self.joints["neck"] + self.joints["mid_hip"]) / 2
        return np.column_stack((matrix, (pose["neck"] + pose["mid_hip"]) / 2 - matrix @ middle))

    def _head(self, pose: _Joints, trunk: np.ndarray, lean: float) -> Float64[np.ndarray, "V 2"]:
        neck = _mapped(trunk, self.joints["neck"][None])[0]
        turn = lean
        if "head" in pose and "head" in self.joints:
            own = _turn(self.joints["head"] - self.joints["neck"], pose["head"] - pose["neck"])
            turn = lean + float(np.clip(_wrapped(own - lean), -_HEAD_TURN, _HEAD_TURN))
        vertices = self.layers["head"].vertices
        return np.asarray(neck + (vertices - self.joints["neck"]) @ _rotation(turn).T)

    def _limb(
        self, layer: PuppetLayer, rest: Float64[np.ndarray, "3 2"], chain: list[str], pose: _Joints,
        first: Float64[np.ndarray, "2"], lean: float,
    ) -> Float64[np.ndarray, "V 2"]:  # fmt: skip
        bones = np.diff(rest, axis=0)
        target = [first]
        turned = _rotation(lean)
        for i, (a, b) in enumerate(pairwise(chain)):
            if a in pose and b in pose:
                step = pose[b] - pose[a]
            else:  # it hangs as in the picture, or goes on as the bone before
                step = turned @ bones[i]
            turned = _rotation(_turn(bones[i], step))
            target.append(target[-1] + step)
        for ease in _EASE:
            moved = bend_limb(layer.vertices, rest, np.array(target), ease)
            if not flipped(layer.vertices, moved, layer.triangles):
                break
        return moved

    def render(
        self, pose: _Joints, *, background: UInt8[np.ndarray, "H W 3"] | None = None, order: list[str] | None = None
    ) -> UInt8[np.ndarray, "H W 3"]:
        """Draw the puppet in a pose.

        Args:
            pose: Name -> (x, y) in pixels of the picture.
            background: What is behind; the picture's own without the person unless given.
            order: Layers from back to front; by the pose unless given.

        Returns:
            uint8[H, W, 3], BGR.
        """
        drawn = self.render_alpha(pose, order=order)
        behind = self.background if background is None else background
        rest = 255 - drawn[..., 3:].astype(np.uint16)
        return np.asarray(drawn[..., :3] + ((behind * rest + 127) // 255).astype(np.uint8))

    def render_alpha(self, pose: _Joints, *, order: list[str] | None = None) -> UInt8[np.ndarray, "H W 4"]:
        """Draw the puppet alone: uint8[H, W, 4], BGRA with colors multiplied by alpha."""
        moved = self.place(pose)
        canvas = np.zeros((*self.image.shape[:2], 4), np.uint8)
        for name in draw_order(pose, self._turned) if order is None else order:
            if name in moved:
                layer = self.layers[name]
                draw_mesh(canvas, layer.texture, layer.vertices, moved[name], layer.triangles)
        return canvas

    def preview(self) -> UInt8[np.ndarray, "H W 3"]:
        """Draw meshes and joints over the picture: to check a puppet that moves wrongly."""
        image = (self.image // 2 + 60).astype(np.uint8)
        colors = ((80, 220, 120), (60, 60, 255), (255, 180, 60), (60, 170, 255), (255, 100, 200), (80, 230, 230))
        for color, layer in zip(colors, self.layers.values(), strict=False):
            corners = np.rint(layer.vertices[layer.triangles] * 16).astype(np.int32)
            cv2.polylines(image, list(corners), True, color, 1, cv2.LINE_AA, 4)
        radius = max(3, round(0.03 * self.unit))
        for point in self.joints.values():
            center = (round(float(point[0])), round(float(point[1])))
            cv2.circle(image, center, radius, (20, 20, 20), cv2.FILLED, cv2.LINE_AA)
            cv2.circle(image, center, radius - 1, (255, 255, 255), cv2.FILLED, cv2.LINE_AA)
        return image


def _completed(joints: _Joints) -> _Joints:
    """All joints as float64, with the middles that may be missing."""
    out = {name: np.asarray(point, np.float64) for name, point in joints.items()}
    for name, part in (("neck", "shoulder"), ("mid_hip", "hip")):
        sides = [out.get(f"{side}_{part}") for side in ("left", "right")]
        if sides[0] is None or sides[1] is None:
            raise SourceError(
                f"the {part}s of the person are not both known", expected="shoulders and hips",
                hint="choose a picture that shows the whole body, or name the joints in a character file",
            )  # fmt: skip
        out.setdefault(name, (sides[0] + sides[1]) / 2)
    return out


def _body_of(joints: _Joints) -> Body:
    names = list(joints)
    skeleton = Skeleton.create("puppet", names, [])
    points = np.array([[joints[name] for name in names]])
    return Body.of(PoseSequence.from_arrays(points, np.zeros(1), skeleton))


def _mapped(matrix: Float64[np.ndarray, "2 3"], points: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def _rotation(angle: float) -> Float64[np.ndarray, "2 2"]:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def _turn(before: np.ndarray, after: np.ndarray) -> float:
    return float(np.arctan2(_cross(before, after), before @ after))


def _cross(a: np.ndarray, b: np.ndarray) -> float:
    return float(a[0] * b[1] - a[1] * b[0])


def _wrapped(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
