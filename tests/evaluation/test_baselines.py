"""The fast decoder against the plain one: on drawn maps, and on what the released network says of photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featherpose.evaluation.keypoints.coco_ap import average_precision
from featherpose.evaluation.keypoints.dataset import read_coco_dataset
from featherpose.evaluation.keypoints.decoder_search import DecoderSearch, keep_maps
from featherpose.evaluation.reference.paf import (
    PlainPafDecoder,
    extract_keypoints,
    group_keypoints,
    resize_by,
    resize_to_image,
)
from featherpose.evaluation.reference.round_trip import arrangements
from featherpose.formats.coco import coco_results
from featherpose.geometry import Letterbox
from featherpose.media.images import read_image
from featherpose.methods.paf.decode_options import PafOptions
from featherpose.methods.paf.decoder import PafDecoder
from featherpose.methods.paf.encode import encode_maps
from featherpose.methods.paf.maps import Maps
from featherpose.methods.paf.method import maps_of
from featherpose.preprocess import prepare
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.engines import open_backend
from featherpose.skeleton import OPENPOSE_18
from featherpose.zoo.resolve import resolve_model


def scene() -> tuple[np.ndarray, Maps, Letterbox]:
    rng = np.random.default_rng(0)
    body = np.array(
        [
            [0, 14], [0, 43], [-26, 43], [-33, 81], [-36, 115], [26, 43], [33, 81], [36, 115],
            [-17, 120], [-19, 175], [-19, 230], [17, 120], [19, 175], [19, 230], [-8, 8], [8, 8], [-16, 12], [16, 12],
        ],
        np.float32,
    )  # fmt: skip
    people = np.stack([body + np.array([60 + 110 * i, 20]) + rng.uniform(-3, 3, (18, 2)) for i in range(4)]).astype(
        np.float32
    )
    box = Letterbox((448, 288), (448, 288), (0, 0), (448, 288))
    return people, encode_maps(people, OPENPOSE_18, (448, 288)), box


@pytest.mark.parametrize(("ratio", "refined"), [(8, True), (8, False), (4, True), (None, True)])
def test_the_plain_decoder_finds_the_same_people(ratio: int | None, refined: bool) -> None:
    people, maps, box = scene()
    fast = PafDecoder(OPENPOSE_18, PafOptions.published())(maps, box)
    plain = PlainPafDecoder(OPENPOSE_18, ratio=ratio, refined=refined)(maps, box)
    assert len(fast) == len(plain) == 4
    fast = fast[np.argsort(fast.keypoints[:, 1, 0])]
    plain = plain[np.argsort(plain.keypoints[:, 1, 0])]
    assert np.abs(fast.keypoints - plain.keypoints).max() < (0.6 if refined else 1.2)
    np.testing.assert_allclose(fast.keypoint_scores, plain.keypoint_scores, atol=0.03)
    # Cubic interpolation overshoots across a limb's narrow field, so the plain limb scores are up to a tenth higher.
    np.testing.assert_allclose(fast.scores, plain.scores, rtol=0.1)
    assert np.abs(plain.keypoints - people).max() < 2


def test_the_stages_can_be_run_one_by_one() -> None:
    _, maps, box = scene()
    options = PafOptions.published()
    resized = resize_to_image(maps, OPENPOSE_18, box)
    assert resized.heatmaps.shape == (288, 448, 18)
    assert resize_by(maps, OPENPOSE_18, 4).pafs.shape == (144, 224, 38)
    candidates = extract_keypoints(resized, options)
    assert [len(found) for found in candidates] == [4] * 18
    assert len(group_keypoints(resized, candidates, OPENPOSE_18, options)) == 4


def test_the_plain_decoder_finds_nobody_in_nothing() -> None:
    maps = Maps(np.zeros((19, 8, 8), np.float32), np.zeros((38, 8, 8), np.float32))
    box = Letterbox.fit((64, 64), height=64, multiple=8)
    assert len(PlainPafDecoder(OPENPOSE_18)(maps, box)) == 0


def test_same_people_on_what_a_real_network_says(shared: Path, released_int8: Path, coco_train: Path) -> None:
    data = read_coco_dataset(coco_train).first(40)
    resolved = resolve_model(released_int8)
    backend = open_backend(resolved.path, resolved.spec, EngineOptions(precision="fp32", threads=1))
    fast = PafDecoder(OPENPOSE_18, PafOptions.published())
    plain = PlainPafDecoder(OPENPOSE_18, ratio=8, refined=True)
    try:
        found: dict[str, list[dict[str, object]]] = {"fast": [], "plain": []}
        for image in data.images:
            inputs, letterbox = prepare(read_image(image.path), height=368)
            maps = maps_of(backend.infer(inputs)[0], resolved.spec.outputs)
            found["fast"] += coco_results(fast(maps, letterbox), image.image_id)
            found["plain"] += coco_results(plain(maps, letterbox), image.image_id)
        ap = {name: average_precision(data, results).AP for name, results in found.items()}
        # 40 images make a noisy AP; benchmarks/decode_accuracy.py compares on all of them.
        assert abs(ap["fast"] - ap["plain"]) < 0.02
        assert ap["fast"] > 0.3
    finally:
        backend.close()


def test_a_search_only_accepts_what_is_better(shared: Path, released_int8: Path, coco_train: Path) -> None:
    data = read_coco_dataset(coco_train).first(12)
    resolved = resolve_model(released_int8)
    backend = open_backend(resolved.path, resolved.spec, EngineOptions(threads=1))
    try:
        kept = list(keep_maps(data, backend, height=184, failed=pytest.fail))
    finally:
        backend.close()
    search = DecoderSearch(kept, resolved.spec, data)
    trials = []
    path = search.descend(
        PafOptions(peak_threshold=0.9, weak_peak_threshold=None),
        space={"peak_threshold": (0.1, 0.5), "min_keypoints": (3, 17)},
        tried=lambda rule, trial, better: trials.append((rule, better)),
    )
    values = [trial.average_precision for trial in path]
    assert values == sorted(values)
    assert path[-1].options.peak_threshold == 0.1
    assert path[-1].average_precision > path[0].average_precision
    assert ("peak_threshold", True) in trials


def test_arrangements_read_the_neck_between_the_shoulders(shared: Path) -> None:
    for _, size, people in arrangements(shared / "data/coco-val2017-annotations.json.gz", OPENPOSE_18):
        assert people.shape[1:] == (18, 2)
        neck, shoulders = people[:, 1], people[:, [2, 5]]
        np.testing.assert_allclose(neck, shoulders.mean(axis=1), equal_nan=True)
        assert np.nanmax(people) <= max(size)
