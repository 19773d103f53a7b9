"""A scene: graphics that follow people, as one value, and drawing it into single images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import UInt8

from featherpose.augment.sprites import Sprite
from featherpose.drawing.palette import Color
from featherpose.errors import OptionError
from featherpose.poses import Poses

if TYPE_CHECKING:
    from featherpose.augment.player import ScenePlayer

__all__ = ["ItemKind", "Scene", "SceneItem"]

ItemKind = Literal["sprite", "text", "circle", "line", "polygon", "trail", "gauge"]

_JOINTS = {
    "sprite": (1, 8), "text": (1, 8), "circle": (1, 1), "line": (2, 20), "polygon": (3, 20), "trail": (1, 1),
    "gauge": (3, 3),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SceneItem:
    """One graphic of a scene, drawn for each person that it is meant for.

    Attributes:
        kind: ``sprite`` and ``text`` are placed by their joints; ``circle`` around a joint; ``line`` and ``polygon``
            through joints; ``trail`` of where a joint was; ``gauge`` for the angle at the second of three joints.
        joints: Names of keypoints, or ``neck`` and ``mid_hip``, which are the middle of their two sides if need be.
        sprite: What is drawn; None but for ``sprite``.
        text: What is written; ``{id}`` stands for the person's id, ``{score}`` for the score.
        points: For each joint (x, y) in the graphic, from (0, 0) at its upper left to (1, 1) at its lower right: the
            point that lies on the joint. The center unless given.
        size: Width of a sprite, height of a line of text, radius of a circle, of a gauge; in trunk lengths. Where
            two or more joints say how large a sprite is it only scales what they say.
        width: Of lines, in trunk lengths; 0 fills circles.
        offset: Shift (right, down) in trunk lengths, along the graphic's own axes.
        up: Two joints from the first to the second of which the top of a graphic with one joint points; None for up in
            the image.
        color: BGR.
        opacity: 0..1.
        behind: Whether the person's body covers it.
        people: ``all``, ``largest``, or the ids that it is meant for.
        min_score: Joints below this score are not trusted; the graphic fades out.
        seconds: Length of a trail.
        back: What becomes of a graphic when the person's back is turned to the camera, so that left and right have
            changed places: ``show`` it as the joints say (mirrored, or on two joints upside down), ``unmirror`` it, or
            ``hide`` it.

    Raises:
        OptionError: If the parts do not fit each other.
    """

    kind: ItemKind
    joints: tuple[str, ...]
    sprite: Sprite | None = None
    text: str = ""
    points: tuple[tuple[float, float], ...] = ()
    size: float = 1.0
    width: float = 0.04
    offset: tuple[float, float] = (0.0, 0.0)
    up: tuple[str, str] | None = None
    color: Color = (255, 255, 255)
    opacity: float = 1.0
    behind: bool = False
    people: Literal["all", "largest"] | tuple[int, ...] = "all"
    min_score: float = 0.15
    seconds: float = 0.8
    back: Literal["show", "unmirror", "hide"] = "show"

    def __post_init__(self) -> None:
        low, high = _JOINTS[self.kind]
        if not low <= len(self.joints) <= high:
            wanted = f"{low}" if low == high else f"{low} to {high}"
            raise OptionError(f"a {self.kind} with {len(self.joints)} joints", expected=f"{wanted}")
        if self.points and len(self.points) != len(self.joints):
            raise OptionError(
                f"a {self.kind} with {len(self.joints)} joints and {len(self.points)} points",
                expected="a point for each joint",
            )
        if self.kind in ("sprite", "text") and len(self.joints) > 1 and len(set(self.points)) < len(self.joints):
            raise OptionError(
                f"a {self.kind} on {len(self.joints)} joints", expected="a different point of it for each joint"
            )
        if (self.kind == "sprite") != (self.sprite is not None) or (self.kind == "text") != bool(self.text):
            raise OptionError(f"a {self.kind} with the wrong content", expected="an image for a sprite, text for text")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """Graphics that follow people.

    Attributes:
        name: Displayed name.
        items: What is drawn, in this order; later ones lie over earlier ones.
        fade_s: How long a graphic takes to appear or disappear.
        smoothing: Whether joints are to be smoothed before (by ``featherpose overlay``).

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> scene = Scene(items=(SceneItem(kind="circle", joints=("nose",), size=0.2, width=0, color=(0, 0, 255)),))
        >>> points = np.full((1, 17, 2), np.nan, np.float32)
        >>> points[0, [0, 5, 6, 11, 12]] = ((32, 8), (40, 20), (24, 20), (38, 50), (26, 50))
        >>> scores = np.isfinite(points[..., 0]).astype(np.float32)
        >>> poses = Poses(points, scores, np.ones(1, np.float32), COCO_17, (64, 64))
        >>> image = scene.render(np.zeros((64, 64, 3), np.uint8), poses)
        >>> image[8, 32].tolist()
        [0, 0, 255]
    """

    name: str = "scene"
    items: tuple[SceneItem, ...] = field(default=())
    fade_s: float = 0.2
    smoothing: bool = True

    def render(self, image: UInt8[np.ndarray, "H W 3"], poses: Poses) -> UInt8[np.ndarray, "H W 3"]:
        """Draw the scene into a single image, in place, and return the image.

        No state is kept between images; use a `player` for the frames of a video.

        Args:
            image: uint8[H, W, 3], BGR, contiguous and writable.
            poses: The people in it, in pixels.

        Raises:
            OptionError: If the image cannot be drawn into.
            SkeletonError: If a joint of the scene is unknown to the people's skeleton.
        """
        return self.player().render(image, poses, None)

    def player(self) -> ScenePlayer:
        """Return what draws the frames of one video: graphics fade, and trails remember where joints were."""
        from featherpose.augment.player import ScenePlayer

        return ScenePlayer(self)
