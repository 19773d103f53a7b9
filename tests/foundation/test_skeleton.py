"""Skeletons: the built-in ones, users' own, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from featherpose.errors import SkeletonError
from featherpose.skeleton import (
    BODY_25,
    COCO_17,
    LSP_14,
    OPENPOSE_18,
    Skeleton,
    builtin_skeletons,
    load_skeleton,
)


@pytest.mark.parametrize("skeleton", builtin_skeletons().values(), ids=lambda s: s.name)
def test_built_in_skeletons_are_whole(skeleton: Skeleton) -> None:
    assert len(skeleton.flip_pairs) == sum(name.startswith("left_") for name in skeleton.keypoints)
    assert {i for limb in skeleton.limbs for i in limb} == set(range(skeleton.num_keypoints))
    order = skeleton.flip_order
    assert [order[i] for i in order] == list(range(skeleton.num_keypoints))
    assert Skeleton.from_dict(json.loads(json.dumps(skeleton.to_dict()))) == skeleton
    assert load_skeleton(skeleton.name) == skeleton


def test_published_limb_table() -> None:
    # The table of the released network: limb -> PAF channels.
    published = {(1, 2): (12, 13), (1, 8): (0, 1), (1, 0): (28, 29), (2, 16): (18, 19), (5, 17): (26, 27)}
    table = dict(zip(OPENPOSE_18.limbs, OPENPOSE_18.paf_channels, strict=True))
    assert {limb: table[limb] for limb in published} == published
    assert [OPENPOSE_18.limbs[i] for i in OPENPOSE_18.loop_limbs] == [(2, 16), (5, 17)]


def test_remapping_by_name_and_midpoint() -> None:
    sources = COCO_17.mapping_to(BODY_25)
    assert sources[BODY_25.index("mid_hip")] == (COCO_17.index("left_hip"), COCO_17.index("right_hip"))
    assert sources[BODY_25.index("left_heel")] == ()
    assert OPENPOSE_18.mapping_to(COCO_17) == tuple((OPENPOSE_18.index(n),) for n in COCO_17.keypoints)
    assert LSP_14.mapping_to(COCO_17)[0] == ()


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_own_skeleton_from_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"hand{suffix}"
    if suffix == ".toml":
        path.write_text(
            '[skeleton]\nname = "hand"\nkeypoints = ["wrist", "left_tip", "right_tip"]\n'
            'limbs = [["wrist", "left_tip"], ["wrist", "right_tip"]]\nsigmas = {wrist = 0.05}\n'
        )
    else:
        path.write_text(
            json.dumps(
                {
                    "name": "hand",
                    "keypoints": ["wrist", "left_tip", "right_tip"],
                    "limbs": [["wrist", "left_tip"], [0, 2]],
                    "sigmas": [0.05, 0.089, 0.089],
                }
            )
        )
    hand = load_skeleton(path)
    assert hand.limbs == ((0, 1), (0, 2))
    assert hand.flip_pairs == ((1, 2),)
    assert hand.sigmas == (0.05, 0.089, 0.089)


BAD: dict[str, dict[str, Any]] = {
    "twice": {"name": "x", "keypoints": ["a", "a"], "limbs": []},
    "unknown keypoint": {"name": "x", "keypoints": ["a", "b"], "limbs": [["a", "c"]]},
    "limb to itself": {"name": "x", "keypoints": ["a", "b"], "limbs": [["a", "a"]]},
    "no keypoints": {"name": "x", "keypoints": [], "limbs": []},
    "limb of three": {"name": "x", "keypoints": ["a", "b"], "limbs": [["a", "b", "a"]]},
    "unknown key": {"name": "x", "keypoints": ["a"], "limbs": [], "color": 1},
    "missing key": {"name": "x", "keypoints": ["a"]},
    "negative sigma": {"name": "x", "keypoints": ["a"], "limbs": [], "sigmas": [-1]},
    "channels": {"name": "x", "keypoints": ["a", "b"], "limbs": [["a", "b"]], "paf_channels": [[0, 0]]},
    "number": {"name": "x", "keypoints": 3, "limbs": []},
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_contradictions_are_refused(data: dict[str, Any]) -> None:
    with pytest.raises(SkeletonError):
        Skeleton.from_dict(data)


@pytest.mark.parametrize("text", ["{", "[1, 2]", "\x00"])
def test_files_that_are_no_skeleton(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(SkeletonError):
        load_skeleton(path)
    with pytest.raises(SkeletonError, match="neither built in nor a readable file"):
        load_skeleton("openpose_19")
