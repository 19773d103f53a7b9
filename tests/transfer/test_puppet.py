"""Movement on another body, and pictures that move: what is known beforehand comes out."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherpose.cli.main import run
from featherpose.errors import ConfigError, OptionError, SourceError
from featherpose.evaluation.motion.paper_people import Proportions, dancing, drawn_person, standing_joints
from featherpose.media.images import read_image, write_image
from featherpose.motion.sequence import PoseSequence
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17
from featherpose.transfer.character import load_character, read_mask
from featherpose.transfer.depth import draw_order
from featherpose.transfer.mark import draw_mark
from featherpose.transfer.mesh import bend_limb, draw_mesh, draw_mesh_slowly, flipped, grid_mesh
from featherpose.transfer.puppet import Puppet, joints_of
from featherpose.transfer.rendering import puppet_frames, retarget_people, write_frames, write_transparent
from featherpose.transfer.retargeting import Body, retarget
from featherpose.transfer.similarity import psnr, ssim

TALL = Proportions(130, 1.0, 1.0, (300, 300))
SMALL = Proportions(90, 1.12, 0.92, (420, 260))


@pytest.fixture(scope="module")
def puppet() -> Puppet:
    image, mask, joints = drawn_person((480, 512), Proportions(110, 1, 1, (240, 270)))
    return Puppet(image, joints, mask=mask)


def test_two_bodies_with_known_correspondence() -> None:
    source, wanted = dancing(TALL), dancing(SMALL)
    result = retarget(source, Body.of(wanted), max_gap_s=0)
    height = Body.of(wanted).stature
    # Where the hips stand sideways is not the body's: the median of both dances is taken out.
    error = np.hypot(*np.moveaxis(result.keypoints - wanted.keypoints, -1, 0))
    assert np.nanmean(error) < 0.02 * height
    assert result.steps[-1].name == "retarget"


def test_missing_joints_are_filled_up_to_the_limit_only() -> None:
    source = dancing(TALL)
    points = source.keypoints[:, 0].copy()
    points[10:14, COCO_17.index("left_wrist")] = np.nan
    points[20:50, COCO_17.index("right_wrist")] = np.nan
    gappy = PoseSequence.from_arrays(points, source.timestamps_s, COCO_17)
    result = retarget(gappy, Body.of(source), max_gap_s=0.5)
    found = result.found[:, 0]
    assert found[:, COCO_17.index("left_wrist")].all()
    assert not found[20:50, COCO_17.index("right_wrist")].any()


def test_a_body_without_hips_is_refused() -> None:
    points = np.full((3, 17, 2), np.nan)
    points[:, :7] = 5
    with pytest.raises(SourceError, match="hips"):
        Body.of(PoseSequence.from_arrays(points, np.arange(3.0), COCO_17))


def test_the_rest_pose_is_the_picture(puppet: Puppet) -> None:
    assert psnr(puppet.render(puppet.joints), puppet.image) >= 35


@pytest.mark.parametrize("degrees", [-150, -90, -45, 30, 60, 90, 120, 150])
def test_a_turned_limb_is_where_it_should_be(puppet: Puppet, degrees: float) -> None:
    body = Proportions(110, 1, 1, (240, 270))
    pose = standing_joints(body, {"left_wrist": degrees})
    drawn = puppet.render({**pose, "head": puppet.joints["head"]})
    wanted, _, _ = drawn_person((480, 512), body, {"left_wrist": degrees})
    wrist = pose["left_wrist"]
    found = []
    for image in (drawn, wanted):  # the white spot on the wrist
        x0, y0 = (wrist - 14).round().astype(int)
        weights = (image[y0 : y0 + 29, x0 : x0 + 29].min(-1) > 235).astype(float)
        assert weights.sum() > 20
        rows, columns = np.indices(weights.shape)
        found.append(np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum())
    assert np.hypot(*(found[0] - found[1])) < 2


def test_no_triangle_turns_over_in_any_pose(puppet: Puppet) -> None:
    rng = np.random.default_rng(0)
    body = Proportions(110, 1, 1, (240, 270))
    for _ in range(60):
        turns = {name: float(rng.uniform(-170, 170)) for name in (
            "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_knee", "right_knee", "left_ankle",
            "right_ankle")}  # fmt: skip
        pose = standing_joints(body, turns)
        for name, moved in puppet.place(pose).items():
            layer = puppet.layers[name]
            assert flipped(layer.vertices, moved, layer.triangles) == 0


def test_angular_skinning_alone_does_not_flip_up_to_120_degrees() -> None:
    region = np.zeros((80, 260), np.uint8)
    region[20:60, 10:250] = 1
    vertices, triangles = grid_mesh(region, 5)
    rest = np.array([[20.0, 40], [130, 40], [240, 40]])
    for bend in np.radians(np.linspace(-120, 120, 33)):
        pose = rest.copy()
        pose[2] = rest[1] + 110 * np.array([np.cos(bend), np.sin(bend)])
        moved = bend_limb(vertices, rest, pose)
        assert flipped(vertices, moved, triangles) == 0
        assert np.allclose(bend_limb(rest, rest, pose), pose, atol=0.01)


def test_triangles_are_drawn_as_their_definition_says() -> None:
    rng = np.random.default_rng(0)
    texture = cv2.resize(rng.integers(0, 256, (8, 8, 4), np.uint8), (48, 48), interpolation=cv2.INTER_CUBIC)
    texture[..., :3] = np.minimum(texture[..., :3], texture[..., 3:])
    vertices, triangles = grid_mesh(np.ones((48, 48), np.uint8), 16)
    moved = vertices * 1.3 + rng.normal(0, 1.5, vertices.shape) + 4
    canvas = np.zeros((80, 80, 4), np.uint8)
    draw_mesh(canvas, texture, vertices, moved, triangles)
    expected = draw_mesh_slowly(np.zeros((80, 80, 4), np.uint8), texture, vertices, moved, triangles)
    assert (np.abs(canvas - expected).max(-1) <= 2).mean() > 0.999


def test_far_limbs_lie_behind() -> None:
    front = standing_joints(TALL)
    assert draw_order(front).index("left_arm") > draw_order(front).index("trunk")
    assert draw_order(front, turned=True).index("left_arm") < draw_order(front, turned=True).index("trunk")


def test_several_people_each_move_a_copy() -> None:
    both = np.stack((dancing(TALL).keypoints[:, 0], dancing(SMALL).keypoints[:, 0]), 1)
    sequence = PoseSequence.from_arrays(both, np.arange(60) / 30, COCO_17)
    moved = retarget_people(sequence, Body.of(dancing(SMALL)), 2)
    assert len(moved) == 2
    assert abs(np.nanmedian(moved[0].keypoints[..., 0]) - np.nanmedian(moved[1].keypoints[..., 0])) > 40


def test_files_with_and_without_transparency(puppet: Puppet, tmp_path: Path) -> None:
    movement = retarget(dancing(TALL, 8), puppet.body)
    written = write_frames(tmp_path / "out.avi", puppet_frames(puppet, [movement]), puppet.background, movement)
    assert "out.avi" in written
    size = (puppet.image.shape[1], puppet.image.shape[0])
    write_transparent(tmp_path / "png", puppet_frames(puppet, [movement]), size, movement, mark=False)
    files = sorted((tmp_path / "png").iterdir())
    image = cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED)
    assert len(files) == 8
    assert image is not None
    assert image.shape == (512, 480, 4)
    assert image[0, 0, 3] == 0
    assert image[..., 3].max() == 255


def test_a_transparent_webm(puppet: Puppet, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    movement = retarget(dancing(TALL, 4), puppet.body)
    size = (puppet.image.shape[1], puppet.image.shape[0])
    write_transparent(tmp_path / "out.webm", puppet_frames(puppet, [movement]), size, movement)
    with av.open(str(tmp_path / "out.webm")) as container:
        assert container.streams.video[0].metadata.get("alpha_mode") == "1"


def test_the_mark_is_on_by_default(puppet: Puppet, tmp_path: Path) -> None:
    plain = np.full((400, 600, 3), 120, np.uint8)
    draw_mark(plain)
    assert (plain[-20:, -100:] != 120).any()


def test_the_command_on_drawn_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, mask, joints = drawn_person((240, 256), Proportions(55, 1, 1, (120, 135)))
    write_image(tmp_path / "figure.png", image)
    write_image(tmp_path / "mask.png", np.dstack([mask] * 3))
    lines = [f"{name} = [{x:.1f}, {y:.1f}]" for name, (x, y) in joints.items()]
    toml = "\n".join(['image = "figure.png"', 'mask = "mask.png"', "[joints]", *lines])
    (tmp_path / "figure.toml").write_text(toml)
    dance = dancing(TALL, 10)
    columns = [f"{name}_{part}" for name in COCO_17.keypoints for part in ("x", "y", "score")]
    rows = [",".join(["source", "frame", "timestamp_s", "person", "id", "score", *columns])]
    for t, points in enumerate(dance.keypoints[:, 0]):
        values = [f"{v:.2f}" for x, y in points for v in (x, y, 1)]
        rows.append(",".join(["d.mp4", str(t), f"{t / 30:.4f}", "0", "1", "1", *values]))
    (tmp_path / "dance.csv").write_text("\n".join(rows) + "\n")
    arguments = ["transfer", str(tmp_path / "dance.csv"), "--to", str(tmp_path / "figure.toml")]
    out = [str(tmp_path / name) for name in ("o.avi", "o.bvh", "p.png")]
    assert run([*arguments, "-o", out[0], "--bvh", out[1], "--preview", out[2], "-q"]) == 0
    assert Path(out[1]).read_text().startswith("HIERARCHY")
    assert read_image(out[2]).shape == image.shape
    assert run([*arguments, "-o", str(tmp_path / "figure.toml")]) == 2
    assert run(["transfer", str(tmp_path / "dance.csv")]) == 2
    (tmp_path / "gray.png").write_bytes(cv2.imencode(".png", np.full((64, 64, 3), 128, np.uint8))[1].tobytes())
    assert run(["transfer", str(tmp_path / "dance.csv"), "--to", str(tmp_path / "gray.png"), "-o", out[0]]) == 1
    assert "there is no person" in capsys.readouterr().err


def test_bad_characters_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("image = 'a.png'\njoints = 3\n")
    with pytest.raises(ConfigError, match="joints"):
        load_character(path)
    image, mask, joints = drawn_person((240, 256), Proportions(55, 1, 1, (120, 135)))
    with pytest.raises(OptionError, match="mask of 10x10"):
        Puppet(image, joints, mask=mask[:10, :10])
    with pytest.raises(SourceError, match="shoulders"):
        Puppet(image, {"left_hip": joints["left_hip"]}, mask=mask)
    with pytest.raises(SourceError, match="no person"):
        Puppet.from_image(image, Poses.empty(COCO_17, (240, 256)))


def test_a_person_is_cut_out_of_a_drawing() -> None:
    image, mask, joints = drawn_person((480, 512), Proportions(110, 1, 1, (240, 270)))
    points = np.array([joints[name] for name in COCO_17.keypoints], np.float32)[None]
    poses = Poses(points, np.ones((1, 17), np.float32), np.ones(1, np.float32), COCO_17, (480, 512))
    found = Puppet.from_image(image, poses).mask > 127
    both, either = (found & (mask > 127)).sum(), (found | (mask > 127)).sum()
    assert both / either > 0.85
    assert "head" in joints_of(points[0].astype(float), COCO_17)


def test_similarity_measures() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 64, 3), np.uint8)
    skimage = pytest.importorskip("skimage.metrics")
    other = np.clip(image.astype(int) + rng.integers(-20, 21, image.shape), 0, 255).astype(np.uint8)
    assert abs(psnr(image, other) - skimage.peak_signal_noise_ratio(image, other)) < 1e-6
    assert ssim(image, other) < 1


def test_the_size_of_a_mask_is_checked_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), np.zeros((8, 8, 4), np.uint8))
    data = bytearray(path.read_bytes())
    data[16:24] = (30_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    path.write_bytes(bytes(data))
    with pytest.raises(SourceError, match="30000x30000"):
        read_mask(path)
