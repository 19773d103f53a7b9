"""The recipe in ``benchmarks/recipes/accurate`` with tiny networks and images."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from finish import fit_background, folded, interpolated, released_layout
from network import ConvNorm, FineOpenPose
from resident import FIELDS_X, FIELDS_Y, LEVELS, Resident
from start import start_from_released
from torch.nn import functional as F
from views import Placement, draw_labels, place, teacher_targets

from featherpose.errors import ModelError
from featherpose.nn.human_pose_estimation_0001 import HumanPoseEstimation0001
from featherpose.skeleton import OPENPOSE_18

SIDE = 96
NOSE, NECK, RIGHT_SHOULDER, LEFT_SHOULDER = (
    OPENPOSE_18.keypoints.index(name) for name in ("nose", "neck", "right_shoulder", "left_shoulder")
)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    coarse = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 255
    return F.interpolate(coarse, (64, 64), mode="bicubic", align_corners=False).clamp(0, 255)


@pytest.fixture(scope="module")
def released() -> HumanPoseEstimation0001:
    torch.manual_seed(2)
    return HumanPoseEstimation0001().eval()


@pytest.fixture(scope="module")
def started(released: HumanPoseEstimation0001, images: torch.Tensor) -> FineOpenPose:
    network = FineOpenPose()
    start_from_released(network, released, images)
    return network.eval()


def test_full_widths_keep_the_outputs(
    started: FineOpenPose, released: HumanPoseEstimation0001, images: torch.Tensor
) -> None:
    with torch.no_grad():
        (initial, refined), (wanted_initial, wanted) = started(images), released(images)
    torch.testing.assert_close(initial.pafs, wanted_initial.pafs, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(initial.heatmaps, wanted_initial.heatmaps[:, :-1], atol=1e-5, rtol=1e-3)
    # The refined stage no longer reads the background.
    mean = F.avg_pool2d(refined.heatmaps, 2)
    for found, before in ((mean, wanted.heatmaps[:, :-1]), (refined.pafs, wanted.pafs)):
        assert ((found - before) ** 2).mean() < 0.02 * before.var()


def test_no_weight_overflows_fp16_where_a_channel_is_dead(
    released: HumanPoseEstimation0001, images: torch.Tensor
) -> None:
    weak = HumanPoseEstimation0001().eval()
    weak.load_state_dict(released.state_dict())
    with torch.no_grad():
        weak.model[0][0].weight[3] = 0  # type: ignore[index]
        weak.model[0][0].bias[3] = -1  # type: ignore[index]
        weak.model[1][0].weight[3] = 100  # type: ignore[index]
    network = FineOpenPose(width=64, features=32, hidden=32, blocks=2)
    start_from_released(network, weak, images)
    assert all(torch.isfinite(tensor.half()).all() for tensor in network.state_dict().values())
    norms = [module.norm for module in network.modules() if isinstance(module, ConvNorm)]
    assert any((norm.running_var == 0).any() for norm in norms if norm.running_var is not None)


def test_wider_networks_are_refused(released: HumanPoseEstimation0001, images: torch.Tensor) -> None:
    with pytest.raises(ModelError, match="neck"):
        start_from_released(FineOpenPose(features=144), released, images)
    with pytest.raises(ModelError, match="refinement"):
        start_from_released(FineOpenPose(blocks=6), released, images)


def test_finished_network_is_the_mean_of_the_sub_pixels(started: FineOpenPose, images: torch.Tensor) -> None:
    torch.manual_seed(3)
    trained = FineOpenPose().eval()
    trained.load_state_dict({name: tensor.clone() for name, tensor in started.state_dict().items()})
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1 + 0.1 * torch.rand_like(parameter))
        initial, refined = trained(images)
        network = released_layout(folded(trained))
        fit_background(network, images)
        finished_initial, finished = network(images)
    torch.testing.assert_close(finished.heatmaps[:, :-1], F.avg_pool2d(refined.heatmaps, 2), atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(finished.pafs, refined.pafs, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(finished_initial.heatmaps[:, :-1], initial.heatmaps, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(finished_initial.pafs, initial.pafs, atol=1e-5, rtol=1e-3)
    rest = 1 - finished.heatmaps[:, :-1].amax(1)
    assert ((finished.heatmaps[:, -1] - rest) ** 2).mean() <= rest.var()


def test_interpolation_ends_at_both_networks() -> None:
    trained, start = {"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([3.0, 0.0])}
    assert interpolated(trained, start, 1)["a"].tolist() == [1, 2]
    assert interpolated(trained, start, 0)["a"].tolist() == [3, 0]
    assert interpolated(trained, start, 0.5)["a"].tolist() == [2, 1]


def photograph() -> Resident:
    """One photograph of 240x240 whose person has nose, neck and right shoulder; the teacher sees nothing."""
    people = torch.zeros(1, 24, OPENPOSE_18.num_keypoints, 3)
    people[0, 0, NOSE] = torch.tensor([120.0, 100.0, 1.0])
    people[0, 0, NECK] = torch.tensor([120.0, 140.0, 1.0])
    people[0, 0, RIGHT_SHOULDER] = torch.tensor([90.0, 140.0, 0.5])
    channels = OPENPOSE_18.num_keypoints + 2 * OPENPOSE_18.num_limbs
    maps = tuple(torch.zeros(1, channels, level // 8, level // 8) for level in LEVELS)
    return Resident(
        torch.full((1, 3, 240, 240), 128, dtype=torch.uint8), torch.tensor([[240.0, 240.0]]), people,
        torch.tensor([1]), torch.tensor([0]), maps,
    )  # fmt: skip


def placement(degrees: float, *, mirrored: bool) -> Placement:
    cos, sin, flip = math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), -1.0 if mirrored else 1.0
    linear = torch.tensor([[[cos * flip, -sin], [sin * flip, cos]]])
    return Placement(
        SIDE, torch.tensor([0]), torch.tensor([0.8]), torch.tensor([mirrored]), linear, torch.tensor([[110.0, 125.0]])
    )


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 30])
def test_labels_lie_where_the_view_shows_them(degrees: float, mirrored: bool) -> None:
    data, view = photograph(), placement(degrees, mirrored=mirrored)
    people = view.keypoints(data.people)[:, :1]
    heatmaps, fields = draw_labels(*teacher_targets(data, view), people)
    shoulder = LEFT_SHOULDER if mirrored else RIGHT_SHOULDER
    places = {}
    for keypoint, source, height in ((NOSE, NOSE, 1.0), (NECK, NECK, 1.0), (shoulder, RIGHT_SHOULDER, 0.5)):
        point = data.people[0, 0, source, :2]
        places[keypoint] = 0.8 * (view.linear[0] @ (point - view.center[0])) + (SIDE - 1) / 2
        row, column = divmod(int(heatmaps[0, keypoint].argmax()), SIDE // 4)
        found = torch.tensor([4 * column + 1.5, 4 * row + 1.5])
        assert (found - places[keypoint]).abs().max() <= 2
        assert height * 0.8 < float(heatmaps[0, keypoint].max()) <= height
    assert not heatmaps[0, RIGHT_SHOULDER if mirrored else LEFT_SHOULDER].any()
    limb = OPENPOSE_18.limbs.index((NECK, shoulder))
    direction = F.normalize(places[shoulder] - places[NECK], dim=0)
    column, row = ((places[shoulder] + places[NECK]) / 2 // 8).long().tolist()
    vector = fields[0, [FIELDS_X[limb], FIELDS_Y[limb]], row, column]
    torch.testing.assert_close(vector, direction, atol=1e-4, rtol=0)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_teacher_is_cut_and_turned_like_the_photograph(mirrored: bool) -> None:
    limb = OPENPOSE_18.limbs.index((NECK, RIGHT_SHOULDER))
    mirror_limb = OPENPOSE_18.limbs.index((NECK, LEFT_SHOULDER))
    data = photograph()
    maps = [level.clone() for level in data.maps]
    for level in maps:
        cells = level.shape[-1]
        # A dot at the right shoulder, (90, 140) on the canvas of 240, and a field to the left everywhere.
        level[0, RIGHT_SHOULDER, int(140.5 / 240 * cells), int(90.5 / 240 * cells)] = 1
        level[0, OPENPOSE_18.num_keypoints + FIELDS_X[limb]] = -1
    view = placement(30, mirrored=mirrored)
    heatmaps, fields = teacher_targets(replace(data, maps=tuple(maps)), view)
    keypoint, turned = (LEFT_SHOULDER, mirror_limb) if mirrored else (RIGHT_SHOULDER, limb)
    point = view.keypoints(data.people)[0, 0, keypoint, :2]
    row, column = divmod(int(heatmaps[0, keypoint].argmax()), SIDE // 4)
    assert (torch.tensor([4 * column + 1.5, 4 * row + 1.5]) - point).abs().max() < 6  # a cell of the teacher
    vector = fields[0, [FIELDS_X[turned], FIELDS_Y[turned]], 6, 6]
    torch.testing.assert_close(vector, view.linear[0] @ torch.tensor([-1.0, 0.0]))


def test_views_are_drawn_around_people_and_inside_the_image() -> None:
    data = photograph()
    views = place(data, 200, SIDE, torch.Generator().manual_seed(0))
    assert views.index.tolist() == [0] * 200
    assert 0.3 < views.mirrored.float().mean() < 0.7
    reach = SIDE / 2 / views.scale[:, None] * 0.8
    assert (views.center >= torch.minimum(reach, torch.tensor(120.0)) - 1e-3).all()
    assert (views.center <= 240 - torch.minimum(reach, torch.tensor(120.0)) + 1e-3).all()
