"""Graphics lie where their joints are, at every size and angle, and bad scene files are told in one line."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherpose.augment import blending, coverage, silhouette
from featherpose.augment.anchors import Affine, affine, similarity, upright
from featherpose.augment.blending import clear_around, draw_slowly, draw_texels, make_texels
from featherpose.augment.bodies import _OF_HEAD, body_units, head_sizes, named_points
from featherpose.augment.coverage import arc_slowly, capsules_slowly, cover_arc, cover_capsules, paint, paint_trail
from featherpose.augment.player import warm_up
from featherpose.augment.scene import Scene, SceneItem
from featherpose.augment.scene_file import builtin_scenes, load_scene
from featherpose.augment.silhouette import Silhouette, cover_silhouette, silhouette_slowly
from featherpose.augment.sprites import Sprite, draw_sprite, read_sprite
from featherpose.errors import ConfigError, FeatherposeError, OptionError, SkeletonError, SourceError
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17, OPENPOSE_18, Skeleton

# A person who stands and faces the camera, for a trunk of 1, (0, 0) between the hips.
FIGURE = {
    "nose": (0, -1.4), "left_eye": (0.08, -1.48), "right_eye": (-0.08, -1.48), "left_ear": (0.2, -1.45),
    "right_ear": (-0.2, -1.45), "left_shoulder": (0.34, -1), "right_shoulder": (-0.34, -1), "left_elbow": (0.42, -0.45),
    "right_elbow": (-0.42, -0.45), "left_wrist": (0.45, 0), "right_wrist": (-0.45, 0), "left_hip": (0.2, 0),
    "right_hip": (-0.2, 0), "left_knee": (0.2, 0.8), "right_knee": (-0.2, 0.8), "left_ankle": (0.2, 1.6),
    "right_ankle": (-0.2, 1.6), "neck": (0, -1),
}  # fmt: skip


def people(count: int, size: tuple[int, int], seed: int = 0, skeleton: Skeleton = COCO_17, ids: bool = True) -> Poses:
    rng = np.random.default_rng(seed)
    rest = np.array([FIGURE[name] for name in skeleton.keypoints])
    points = []
    for _ in range(count):
        unit, turn = rng.uniform(50, 90), rng.uniform(-0.4, 0.4)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        center = rng.uniform((150, 200), (size[0] - 150, size[1] - 180))
        points.append(rest @ rotation.T * unit + center)
    keypoints = np.array(points, np.float32)
    return Poses(
        keypoints, np.ones(keypoints.shape[:2], np.float32), np.ones(count, np.float32), skeleton, size,
        np.arange(count) if ids else None,
    )  # fmt: skip


def dot(color: tuple[int, int, int], at: tuple[float, float], side: int = 101) -> Sprite:
    """A sprite that shows one dot."""
    image = np.zeros((side, side, 4), np.uint8)
    center = (round(at[0] * side - 0.5), round(at[1] * side - 0.5))
    cv2.circle(image, center, 9, (*color, 255), cv2.FILLED, cv2.LINE_AA)
    return Sprite.from_bgra(image)


def centroid(image: np.ndarray) -> np.ndarray:
    weights = image.max(-1).astype(float)
    rows, columns = np.indices(weights.shape)
    return np.asarray(np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("joints", "points"),
    [
        (("left_wrist",), ((0.3, 0.6),)),
        (("left_eye", "right_eye"), ((0.3, 0.6), (0.8, 0.5))),
        (("left_hip", "left_shoulder", "right_shoulder"), ((0.3, 0.6), (0.8, 0.5), (0.5, 0.1))),
    ],
)
def test_the_anchored_point_lies_on_its_joint(
    joints: tuple[str, ...], points: tuple[tuple[float, float], ...], seed: int
) -> None:
    poses = people(1, (640, 480), seed)
    scene = Scene(
        items=(SceneItem(kind="sprite", joints=joints, points=points, sprite=dot((255, 255, 255), points[0])),)
    )
    image = scene.render(np.zeros((480, 640, 3), np.uint8), poses)
    assert np.hypot(*(centroid(image) - poses[0][joints[0]])) < 1


def test_it_follows_over_time_within_a_pixel() -> None:
    scene = Scene(
        items=(SceneItem(kind="sprite", joints=("nose",), sprite=dot((255, 255, 255), (0.5, 0.5)), size=0.3),),
        fade_s=0.1,
    )
    player = scene.player()
    poses = people(1, (640, 480), 3)
    for frame in range(20):
        points = poses.keypoints + np.float32(3.3 * frame)
        moved = Poses(points, poses.keypoint_scores, poses.scores, COCO_17, (640, 480), np.zeros(1, np.int64))
        image = player.render(np.zeros((480, 640, 3), np.uint8), moved, frame / 25)
        assert np.hypot(*(centroid(image) - points[0, 0])) < 1


def test_an_unsure_joint_fades_the_graphic_out_where_it_was() -> None:
    item = SceneItem(kind="circle", joints=("nose",), size=0.3, width=0)
    player = Scene(items=(item,), fade_s=0.2).player()
    poses = people(1, (640, 480), 1)
    lost = Poses(
        np.where(np.arange(17)[None, :, None] == 0, np.nan, poses.keypoints).astype(np.float32),
        np.where(np.arange(17)[None] == 0, 0, poses.keypoint_scores).astype(np.float32),
        poses.scores, COCO_17, (640, 480), poses.track_ids,
    )  # fmt: skip
    heights = []
    for frame in range(8):
        image = np.zeros((480, 640, 3), np.uint8)
        player.render(image, poses if frame < 2 else lost, frame / 20)
        heights.append(int(image.max()))
    assert heights[0] == heights[1] == 255
    assert heights[2:6] == sorted(heights[2:6], reverse=True)
    assert 0 < heights[3] < 255
    assert heights[-1] == 0


def test_who_is_meant() -> None:
    poses = people(3, (1280, 720), 5)

    def drawn(people_: object) -> int:
        item = SceneItem(kind="circle", joints=("nose",), size=0.05, width=0, people=people_)  # type: ignore[arg-type]
        image = Scene(items=(item,)).render(np.zeros((720, 1280, 3), np.uint8), poses)
        return int(cv2.connectedComponents((image.max(-1) > 0).astype(np.uint8))[0]) - 1

    assert drawn("all") == 3
    assert drawn("largest") == 1
    assert drawn((0, 2)) == 2
    assert drawn((9,)) == 0


def test_the_body_covers_what_is_behind_it() -> None:
    poses = people(1, (640, 480), 2)
    block = Sprite.from_bgra(np.full((40, 40, 4), 255, np.uint8))
    middle = tuple(((poses[0]["left_hip"] + poses[0]["right_shoulder"]) / 2).round().astype(int).tolist())
    for behind in (False, True):
        item = SceneItem(kind="sprite", joints=("left_hip", "right_shoulder"), points=((0, 0.5), (1, 0.5)),
                         sprite=block,
                    behind=behind)  # fmt: skip
        image = Scene(items=(item,)).render(np.zeros((480, 640, 3), np.uint8), poses)
        assert bool(image[middle[1], middle[0]].any()) is not behind


@pytest.mark.parametrize("name", builtin_scenes())
@pytest.mark.parametrize("skeleton", [COCO_17, OPENPOSE_18])
def test_shipped_scenes_draw_something(name: str, skeleton: Skeleton) -> None:
    player = load_scene(name).player()
    poses = people(2, (640, 480), 7, skeleton)
    for frame in range(3):
        image = np.full((480, 640, 3), 90, np.uint8)
        moved = Poses(poses.keypoints + 4 * frame, poses.keypoint_scores, poses.scores, skeleton, (640, 480),
                      poses.track_ids)  # fmt: skip
        player.render(image, moved, frame / 10)
    assert np.any(image != 90)


def blots(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A graphic with opaque, half transparent and empty parts."""
    image = rng.integers(0, 256, (*shape, 4), np.uint8)
    image[..., 3] = 0
    for _ in range(3):
        center = (int(rng.integers(shape[1])), int(rng.integers(shape[0])))
        cv2.circle(image, center, int(rng.integers(2, 9)), (10, 60, 200, int(rng.integers(90, 256))), cv2.FILLED)
    return np.asarray(Sprite.from_bgra(image).levels[0])


@pytest.mark.parametrize("seed", range(12))
def test_drawing_is_what_its_definition_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (70, 90, 3), np.uint8)
    graphic = blots(rng, (int(rng.integers(1, 50)), int(rng.integers(1, 60))))
    texels = make_texels(graphic)
    # Turned, mirrored, stretched, larger and smaller, and partly outside of the image.
    turn, wide, high = rng.uniform(-4, 4), rng.uniform(0.2, 3) * rng.choice((-1, 1)), rng.uniform(0.2, 3)
    c, s = (0.0, 1.0) if seed == 0 else (np.cos(turn), np.sin(turn))
    place = Affine(c * wide, -s * high, rng.uniform(0, 90), s * wide, c * high, rng.uniform(0, 70))
    mask = np.where(rng.random((70, 90)) < 0.3, rng.integers(0, 256, (70, 90)), 255 * (rng.random((70, 90)) < 0.3))
    for strength, before in ((256, None), (256, mask.astype(np.uint8)), (140, mask.astype(np.uint8)), (60, None)):
        expected = draw_slowly(image, graphic, place.inverse(), strength, before)
        result = image.copy()
        hidden = np.zeros((0, 0), np.uint8) if before is None else before
        draw_texels(result, texels, clear_around(texels), place.inverse(), (0, 0, 90, 70), strength, hidden)
        difference = np.abs(result - expected).max(-1)
        # A position that lies between two sixteenths may be rounded to either.
        assert (difference > 2).mean() < 2e-4
        assert difference.max() <= 20
    part = image.copy()
    draw_texels(part, texels, clear_around(texels), place.inverse(), (20, 10, 61, 43), 256, np.zeros((0, 0), np.uint8))
    changed = np.zeros((70, 90), bool)
    changed[10:43, 20:61] = True
    assert np.array_equal(part[~changed], image[~changed])
    expected = draw_slowly(image, graphic, place.inverse(), 256, None)
    assert (np.abs(part - expected)[changed].max(-1) > 2).mean() < 2e-3


def test_extreme_places_draw_nothing_or_stay_inside() -> None:
    sprite = Sprite.from_bgra(np.full((40, 60, 4), 255, np.uint8))
    for scale in (0.0, 1e-300, 1e-9, 1e-3, 1.0, 1e3, 1e9, 1e300, np.inf, np.nan):
        for at in (0.0, -1e300, 1e18, 31.5, np.nan):
            for place in (Affine(scale, 0, at, 0, scale, at), Affine(scale, 1, at, 1, 1 / (scale or 1), 3.0),
                          Affine(0, scale, 5.0, -1e-7, 0, at)):  # fmt: skip
                draw_sprite(np.zeros((48, 64, 3), np.uint8), sprite, place)


def test_a_sprite_drawn_at_its_size_is_its_pixels() -> None:
    sprite = Sprite.from_bgra(np.dstack((np.arange(48, dtype=np.uint8).reshape(6, 8)[..., None],) * 3 + (
        np.full((6, 8, 1), 255, np.uint8),)))  # fmt: skip
    image = np.zeros((20, 20, 3), np.uint8)
    draw_sprite(image, sprite, upright((0.0, 0.0), (5.0, 7.0), 1.0, (0.0, -1.0)))
    assert np.array_equal(image[7:13, 5:13], sprite.levels[0][..., :3])


def test_the_silhouette_is_what_its_definition_says() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        ends = rng.uniform(-20, 80, (6, 4))
        ends[0, 2:], ends[1, 2], ends[2, 3] = ends[0, :2], ends[1, 0], ends[2, 1]  # a point, upright, level
        capsules = np.column_stack((ends, rng.uniform(0.5, 12, 6)))
        trunk = rng.uniform(-10, 70, (4, 2))
        mask = np.zeros((50, 60), np.uint8)
        cover_silhouette(mask, capsules, trunk)
        assert np.abs(mask - silhouette_slowly((50, 60), capsules, trunk)).max() <= 0.5 + 1e-6


def test_a_part_of_a_silhouette_is_the_same_as_the_whole() -> None:
    poses = people(1, (640, 480), 2)
    body = Silhouette(poses.keypoints[0].astype(np.float64), 70.0, COCO_17)
    whole = body.mask((0, 0, 640, 480))
    x, y = poses.keypoints[0].mean(0).astype(int).tolist()
    assert np.array_equal(body.mask((x - 40, y - 60, x + 20, y + 30)), whole[y - 60 : y + 30, x - 40 : x + 20])
    for name in ("left_shoulder", "right_knee", "nose", "left_wrist", "right_hip"):
        px, py = np.rint(poses[0][name]).astype(int)
        assert whole[py, px] == 255
    assert 0.01 < (whole > 0).mean() < 0.2


def test_body_sizes_are_the_largest_estimate() -> None:
    poses = people(3, (1280, 720), 8)
    lost = np.random.default_rng(3).random(poses.keypoint_scores.shape) < 0.3
    poses = Poses(
        np.where(lost[..., None], np.nan, poses.keypoints).astype(np.float32),
        np.where(lost, 0, poses.keypoint_scores).astype(np.float32), poses.scores, COCO_17, poses.image_size,
    )  # fmt: skip
    names = named_points(COCO_17)
    for person, (size, lower) in enumerate(zip(head_sizes(poses), head_sizes(poses, quantile=0.5), strict=True)):
        estimates = sorted(
            float(np.hypot(*np.subtract(*(poses.keypoints[person, list(names[p])].mean(0) for p in pair)))) / ratio
            for *pair, ratio in _OF_HEAD
            if all(p in names and not lost[person, list(names[p])].any() for p in pair)
        )
        assert size == pytest.approx(estimates[-1], rel=1e-5)
        assert lower == pytest.approx(estimates[-(-len(estimates) // 2) - 1], rel=1e-5)
    nobody = Poses(poses.keypoints, np.zeros_like(poses.keypoint_scores), poses.scores, COCO_17, poses.image_size)
    assert np.isnan(body_units(nobody)).all()
    assert np.isnan(head_sizes(nobody, quantile=0.5)).all()


def test_a_trail_is_its_capsules() -> None:
    rng = np.random.default_rng(6)
    trail = np.column_stack((np.arange(9) / 10, rng.uniform(-20, 90, 9), rng.uniform(-20, 70, 9)))
    image = rng.integers(0, 256, (60, 80, 3), np.uint8)
    left = 1 - (0.8 - trail[:-1, 0]) / 1.2
    sheet = capsules_slowly((60, 80), trail[:, 1:], np.maximum(1, 9 * left) / 2, 255 * left**1.5)
    share = sheet[..., None] / 255 * 200 / 256
    expected = share * np.array((250, 10, 90)) + (1 - share) * image
    paint_trail(image, trail, 0.8, 1.2, (250, 10, 90), 9.0, 200)
    assert np.abs(image - expected).max() <= 1


@pytest.mark.parametrize("name", builtin_scenes())
def test_nothing_is_compiled_after_the_warm_up(name: str) -> None:
    kernels = [value for module in (blending, coverage, silhouette) for value in vars(module).values()
               if hasattr(value, "signatures")]  # fmt: skip
    scene = load_scene(name)
    warm_up(scene)
    before = [len(kernel.signatures) for kernel in kernels]
    assert len(kernels) > 8
    assert max(before) >= 1
    for ids in (True, False):
        player = scene.player()
        for frame in range(4):
            player.render(np.zeros((480, 640, 3), np.uint8), people(2, (640, 480), frame, ids=ids), frame / 4)
    scene.render(np.zeros((480, 640, 3), np.uint8), people(1, (640, 480)))
    assert [len(kernel.signatures) for kernel in kernels] == before


def test_maps_put_points_on_joints() -> None:
    rng = np.random.default_rng(1)
    points = tuple((float(x), float(y)) for x, y in rng.uniform(0, 100, (5, 2)))
    joints = [(float(x), float(y)) for x, y in rng.uniform(0, 500, (5, 2))]
    matrix = affine(points[:3], joints[:3])
    assert matrix is not None
    assert np.allclose([matrix(p) for p in points[:3]], joints[:3])
    best = affine(points, joints)
    assert best is not None
    rows = np.column_stack((points, np.ones(5)))
    assert np.allclose(np.reshape(best, (2, 3)).T, np.linalg.lstsq(rows, np.array(joints), rcond=None)[0])
    two = similarity(points[:2], joints[:2])
    assert two is not None
    assert np.allclose([two(p) for p in points[:2]], joints[:2])
    assert np.allclose(two.inverse()(two((3.0, 4.0))), (3, 4))
    assert similarity((points[0], points[0]), joints[:2]) is None
    assert affine(points[:3], [(0.0, 0.0), (100.0, 100.0), (200.0, 200.01)]) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("items = []", "items"),
        ("[[items]]\nkind = 'ball'\njoints = ['nose']", "items 1 kind"),
        ("[[items]]\nkind = 'circle'\njoints = ['nose']\nhue = 1", "hue"),
        ("[[items]]\nkind = 'gauge'\njoints = ['nose']", "a gauge with 1 joints; expected 3"),
        ("[[items]]\nkind = 'sprite'\njoints = ['nose']", "without an image"),
        ("[[items]]\nkind = 'text'\ntext = '{name}'\njoints = ['nose']", "cannot be filled in"),
        ("[[items]]\nkind = 'sprite'\nimage = 'none.png'\njoints = ['nose']", "there is no file"),
        ("items = [", "TOML"),
    ],
)
def test_a_bad_scene_is_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "scene.toml"
    path.write_text(text)
    with pytest.raises(FeatherposeError, match=message) as caught:
        load_scene(path)
    assert "\n" not in str(caught.value)


def test_unknown_joints_and_images_without_alpha(tmp_path: Path) -> None:
    scene = Scene(items=(SceneItem(kind="circle", joints=("left_antenna",)),))
    with pytest.raises(SkeletonError, match="left_antenna"):
        scene.render(np.zeros((48, 64, 3), np.uint8), people(1, (640, 480)))
    cv2.imwrite(str(tmp_path / "plain.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(SourceError, match="no transparency"):
        read_sprite(tmp_path / "plain.png")
    (tmp_path / "bad.svg").write_text("<svg><circle")
    with pytest.raises(SourceError, match="damaged SVG"):
        read_sprite(tmp_path / "bad.svg")
    with pytest.raises(ConfigError, match="glasses"):
        load_scene("sunglasses")
    with pytest.raises(OptionError, match="drawn into"):
        Scene().render(np.zeros((4, 4), np.uint8), people(1, (640, 480)))


SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{body}</svg>'
BLUR = '<feGaussianBlur stdDeviation="400"/>'


@pytest.mark.skipif(sys.platform != "linux", reason="needs limits of memory and processor time that hold")
@pytest.mark.parametrize(
    ("body", "width", "height", "message"),
    [
        ('<rect width="1" height="5"/>', 1, 3_000_000, "takes more than"),  # would be 49 GB of pixels
        ("<g>" * 100_000 + "</g>" * 100_000, 9, 9, "takes more than"),  # exhausts the renderer's stack
        ('<image width="9" height="9" href="/etc/logo.png"/>', 9, 9, "refers to '/etc/logo.png'"),
        ('<image width="9" height="9" xlink:href = "file:///a.svg"/>', 9, 9, "refers to"),
    ],
)
def test_an_svg_that_does_harm_is_refused(tmp_path: Path, body: str, width: int, height: int, message: str) -> None:
    path = tmp_path / "a.svg"
    path.write_text(SVG.format(width=width, height=height, body=body))
    with pytest.raises(SourceError, match=message) as caught:
        read_sprite(path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of processor time that holds")
def test_an_svg_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featherpose.augment.svg._PROCESSOR_S", 2)
    body = f'<filter id="f">{BLUR * 2000}</filter><rect width="9" height="9" filter="url(#f)"/>'
    (tmp_path / "a.svg").write_text(SVG.format(width=9, height=9, body=body))
    with pytest.raises(SourceError, match="takes more than 2 s"):
        read_sprite(tmp_path / "a.svg")


def test_entities_of_an_svg_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text('<!DOCTYPE svg [<!ENTITY a "b">]>' + SVG.format(width=9, height=9, body="&a;"))
    with pytest.raises(SourceError, match="declares entities"):
        read_sprite(tmp_path / "a.svg")


def test_a_large_sprite_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 6, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    with pytest.raises(SourceError, match="60000x60000 pixels; expected 4096 at most"):
        read_sprite(tmp_path / "a.png")


@pytest.mark.parametrize("text", ["{id:>999999999}", "{id.__class__}", "{score!r}", "{}", "{id"])
def test_texts_take_two_names_and_no_formats(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scene.toml"
    path.write_text(f"[[items]]\nkind = 'text'\ntext = '{text}'\njoints = ['nose']")
    with pytest.raises(ConfigError, match="cannot be filled in"):
        load_scene(path)


def test_covered_pixels_agree_with_the_definition() -> None:
    rng = np.random.default_rng(8)
    for _ in range(20):
        points = rng.uniform(-10, 60, (6, 2))
        radii, strengths = rng.uniform(0.5, 8, 5), rng.uniform(0, 255, 5)
        sheet = np.zeros((40, 50), np.uint8)
        cover_capsules(sheet, points, radii, strengths)
        assert np.abs(sheet - capsules_slowly((40, 50), points, radii, strengths)).max() <= 0.5 + 1e-9
        first, sweep = rng.uniform(-np.pi, np.pi, 2)
        x, y, radius = rng.uniform(0, 50), rng.uniform(0, 40), rng.uniform(4, 20)
        sheet = np.zeros((40, 50), np.uint8)
        cover_arc(sheet, x, y, radius, 2.0, first, sweep)
        expected = arc_slowly((40, 50), (x, y), radius, 2.0, first, sweep)
        assert (np.abs(sheet - expected) > 0.5 + 1e-9).sum() <= 1  # a pixel's center may lie on the end itself


def test_paint_is_over() -> None:
    rng = np.random.default_rng(9)
    region, sheet = rng.integers(0, 256, (9, 11, 3), np.uint8), rng.integers(0, 256, (9, 11), np.uint8)
    share = sheet[..., None] / 255 * 180 / 256
    expected = share * np.array((10, 200, 77)) + (1 - share) * region
    paint(region, sheet, (10, 200, 77), 180)
    assert np.abs(region - expected).max() <= 0.51
