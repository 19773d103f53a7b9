"""Encode, then decode: the same people, for several skeletons and for real arrangements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherpose.evaluation.reference.round_trip import RoundTrip, arrangements, round_trip
from featherpose.geometry import Letterbox
from featherpose.methods.paf.decode_options import PafOptions
from featherpose.methods.paf.decoder import PafDecoder
from featherpose.methods.paf.encode import encode_maps
from featherpose.skeleton import BODY_25, COCO_17, LSP_14, OPENPOSE_18, Skeleton

STAR = Skeleton.create(
    "star",
    ["middle", "north", "east", "south", "west", "far_north"],
    [("middle", "north"), ("middle", "east"), ("middle", "south"), ("middle", "west"), ("north", "far_north")],
)


def spread(skeleton: Skeleton, seed: int, people: int) -> np.ndarray:
    """People who do not touch: keypoints at least 30 px apart on a jittered grid, one block per person."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(skeleton.num_keypoints)))
    found = []
    for p in range(people):
        cells = rng.permutation(side * side)[: skeleton.num_keypoints]
        grid = np.stack((cells % side, cells // side), axis=1) * 44.0 + rng.uniform(-6, 6, (len(cells), 2)) + 24
        found.append(grid + np.array([p * (side * 44 + 40), 0]))
    return np.array(found, np.float32)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 100_000),
    people=st.integers(1, 3),
    skeleton=st.sampled_from([OPENPOSE_18, COCO_17, BODY_25, LSP_14, STAR]),
)
def test_people_who_do_not_touch_come_back_whole(seed: int, people: int, skeleton: Skeleton) -> None:
    truth = spread(skeleton, seed, people)
    size = (int(truth[..., 0].max()) + 32, int(truth[..., 1].max()) + 32)
    width, height = -(-size[0] // 8) * 8, -(-size[1] // 8) * 8
    box = Letterbox((width, height), (width, height), (0, 0), (width, height))
    # Limbs of one person may cross others of the same type only between people, who are apart; 9 of 10 samples hold.
    # Nothing is expected of people of such shapes.
    options = PafOptions(min_limb_support=0.8, weak_peak_threshold=None, max_limb_length=2.0, rate=False)
    poses = PafDecoder(skeleton, options)(encode_maps(truth, skeleton, (width, height)), box)
    assert len(poses) == people
    poses = poses[np.argsort(poses.keypoints[..., 0].min(axis=1))]
    # Two keypoints of one kind lie in different blocks, so every keypoint is a clear peak near its place.
    assert np.abs(poses.keypoints - truth).max() < 1.5


@pytest.mark.parametrize(("options", "grouped"), [(PafOptions(min_rating=0), 0.99), (PafOptions.published(), 0.985)])
def test_real_arrangements_come_back(shared: Path, options: PafOptions, grouped: float) -> None:
    decoder = PafDecoder(OPENPOSE_18, options)
    total = RoundTrip()
    images = 0
    for _, size, people in arrangements(shared / "data/coco-val2017-annotations.json.gz", OPENPOSE_18):
        if len(people) <= 5:
            total += round_trip(people, size, decoder)
            images += 1
    assert images == 2052
    assert total.found >= 0.98 * total.keypoints
    assert total.grouped >= grouped * total.found


@pytest.mark.parametrize("options", [PafOptions(), PafOptions.published()])
def test_nobody_stays_nobody(options: PafOptions) -> None:
    nobody = np.empty((0, 18, 2), np.float32)
    assert round_trip(nobody, (640, 480), PafDecoder(OPENPOSE_18, options)) == RoundTrip(0, 0, 0)
