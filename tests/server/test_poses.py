"""Images over HTTP: the same people as the estimator finds, and a clear refusal of everything else."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from pose_server import Running, Start

from featherpose.errors import OptionError
from featherpose.media.images import decode_image
from featherpose.server.options import ServeLimits, ServeOptions
from featherpose.server.routes.schemas import BatchAnswer, ErrorAnswer, PersonRecord, PosesAnswer, SourceRecord

JPEG = {"Content-Type": "image/jpeg"}


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"what", "expected", "hint"}
    assert error["what"]
    return error


def png_of_claimed_size(width: int, height: int) -> bytes:
    """A few bytes that claim to be a large image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_the_answer_is_what_the_estimator_finds(server: Running, client: httpx.Client, photo: bytes) -> None:
    answer = client.post("/v1/poses", content=photo, headers=JPEG)
    assert answer.status_code == 200
    body = answer.json()
    PosesAnswer.model_validate(body)
    found = server.service.estimator(decode_image(photo, "photo"))
    assert body["model"] == "feather"
    assert body["size"] == list(found.image_size)
    assert len(body["people"]) == len(found) > 0
    for person, keypoints, score in zip(body["people"], found.keypoints, found.scores, strict=True):
        assert person["id"] is None
        assert person["score"] == pytest.approx(float(score), abs=1e-3)
        rows = np.array([[np.nan] * 3 if row is None else row for row in person["keypoints"]])
        np.testing.assert_allclose(rows[:, :2], keypoints, atol=0.01)
        left, top, width, height = person["box"]
        assert left == pytest.approx(np.nanmin(keypoints[:, 0]), abs=0.02)
        assert top + height == pytest.approx(np.nanmax(keypoints[:, 1]), abs=0.02)
        assert width > 0
    assert set(body["times_ms"]) == {"queue", "read", "prepare", "infer", "decode", "refine"}


def test_a_form_and_a_raw_body_are_the_same(client: httpx.Client, photo: bytes) -> None:
    raw = client.post("/v1/poses", content=photo, headers=JPEG).json()
    form = client.post("/v1/poses", files={"file": ("photo.jpg", photo)}, data={"note": "ignored"}).json()
    untyped = client.post("/v1/poses", content=photo).json()
    assert raw["people"] == form["people"] == untyped["people"]


def test_every_image_format(client: httpx.Client, astronaut: np.ndarray) -> None:
    for suffix in (".png", ".webp", ".bmp", ".jpg"):
        whole, data = cv2.imencode(suffix, astronaut)
        assert whole
        answer = client.post("/v1/poses", content=data.tobytes(), headers={"Content-Type": "application/octet-stream"})
        assert answer.status_code == 200, suffix
        assert answer.json()["people"], suffix


@pytest.mark.parametrize("size", [(1, 1), (25_000, 1), (1, 25_000), (60_000, 3)])
def test_images_of_odd_shapes(client: httpx.Client, size: tuple[int, int]) -> None:
    whole, data = cv2.imencode(".png", np.zeros((size[1], size[0], 3), np.uint8))
    assert whole
    answer = client.post("/v1/poses", content=data.tobytes())
    assert answer.status_code == 200
    assert answer.json() | {"times_ms": {}} == {
        "model": "feather", "skeleton": "openpose_18", "size": list(size), "people": [], "times_ms": {},
        "budget_crops": 10,
    }  # fmt: skip


def test_thresholds_leave_out(client: httpx.Client, photo: bytes) -> None:
    def people(**thresholds: float) -> list[dict[str, Any]]:
        answer = client.post("/v1/poses", params=thresholds, content=photo, headers=JPEG)
        found: list[dict[str, Any]] = answer.json()["people"]
        return found

    everything, sure = people(), people(min_keypoint_score=0.4)
    kept = [point for person in sure for point in person["keypoints"] if point]
    assert all(score >= 0.4 for _, _, score in kept)
    assert 0 < len(kept) < len([point for person in everything for point in person["keypoints"] if point])
    best = max(person["score"] for person in everything)
    assert [person["score"] for person in people(min_person_score=best - 0.001)] == [best]
    assert people(min_person_score=9.9) == []
    assert people(min_keypoint_score=9.9) == []


def test_annotated_image(client: httpx.Client, photo: bytes) -> None:
    answer = client.post("/v1/poses", params={"annotated": "true"}, content=photo, headers=JPEG)
    assert answer.headers["content-type"] == "image/jpeg"
    drawn, plain = decode_image(answer.content, "drawn"), decode_image(photo, "plain")
    assert drawn.shape == plain.shape
    changed = np.abs(drawn.astype(int) - plain).max(-1) > 60
    assert 0.001 < changed.mean() < 0.2
    nobody = client.post("/v1/poses?annotated=1&min_keypoint_score=5", content=photo, headers=JPEG)
    assert np.abs(decode_image(nobody.content, "nobody").astype(int) - plain).mean() < 2


def test_batch_keeps_order_and_errors_apart(client: httpx.Client, photo: bytes) -> None:
    files = [("file", photo), ("file", b"no image"), ("file", photo)]
    body = client.post("/v1/poses:batch", files=files).json()
    BatchAnswer.model_validate(body)
    results = body["results"]
    assert [set(result) for result in results][1] == {"error"}
    assert "file 1" in results[1]["error"]["what"]
    assert results[0]["people"] == results[2]["people"] != []


def test_bad_images_are_refused_with_a_reason(client: httpx.Client, photo: bytes) -> None:
    tiff = cv2.imencode(".tif", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    gray = np.full((900, 900, 3), 128, np.uint8)
    progressive = cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    for body, words in (
        (b"", "empty"),
        (b"hello", "not an image"),
        (photo[: len(photo) // 2], "cut off"),
        (tiff, "TIFF"),
        (png_of_claimed_size(30_000, 30_000), "megapixels"),
        (png_of_claimed_size(0, 5), "0x5"),
        (progressive[:-2] + b"\xff\xda\0\x02" * 500 + b"\xff\xd9", "scans"),
    ):
        answer = client.post("/v1/poses", content=body, headers=JPEG)
        assert answer.status_code == 400, words
        assert words in str(error_of(answer)), words


def test_bad_forms_are_refused(client: httpx.Client, photo: bytes) -> None:
    def post(body: bytes, kind: str, path: str = "/v1/poses") -> httpx.Response:
        return client.post(path, content=body, headers={"Content-Type": kind})

    form = "multipart/form-data; boundary=x"
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc\r\n'
    for answer, status in (
        (post(photo, "multipart/form-data"), 400),
        (post(b"--y\r\nnothing", form), 400),
        (post(b"", form), 400),
        (post(part + b"--x--\r\n", form), 400),  # no image
        (post(part, form), 400),  # no end
        (post(part * 2 + b"--x--\r\n", form), 413),
        (post(part * 17 + b"--x--\r\n", form, "/v1/poses:batch"), 413),
        (post(part.replace(b'"file"', b'"photo"') + b"--x--\r\n", form), 400),
        (post(b"--x\r\n" + b"A: " + b"b" * 20_000 + b"\r\n\r\nabc\r\n--x--\r\n", form), 400),
        (post(b"a=b", "application/x-www-form-urlencoded"), 400),
        (post(b"{}", "application/json"), 415),
        (post(photo, "image/jpeg", "/v1/poses:batch"), 415),
        (post(photo, "multipart/form-data; boundary=" + "x" * 500), 400),
    ):
        assert answer.status_code == status, answer.text
        error_of(answer)


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "11", "much", ""])
def test_bad_parameters_are_refused(client: httpx.Client, photo: bytes, value: str) -> None:
    answer = client.post("/v1/poses", params={"min_person_score": value}, content=photo, headers=JPEG)
    assert answer.status_code == 422
    assert "min_person_score" in error_of(answer)["what"]


def test_large_bodies_are_refused_before_they_are_read(start: Start, photo: bytes) -> None:
    limits = ServeLimits(body_bytes=100_000, held_bytes=100_000)

    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            yield bytes(10_000)

    with start(ServeOptions(limits=limits)) as server, server.client() as client:
        declared = client.post("/v1/poses", content=bytes(100_001))
        assert declared.status_code == 413
        assert "100,000" in str(error_of(declared)["expected"])
        # The whole of it is read, and thrown away: only so does the client get to read the answer.
        assert client.post("/v1/poses", content=endless()).status_code == 413
        small = photo[:1000]
        assert client.post("/v1/poses", content=small).status_code == 400


def test_unknown_paths_and_methods(client: httpx.Client) -> None:
    missing, wrong = client.get("/v2/poses"), client.get("/v1/poses")
    assert missing.status_code == 404
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "POST"
    error_of(missing)
    error_of(wrong)


def test_state_and_models(server: Running, client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"state": "ok"}
    assert client.get("/readyz").json() == {"state": "ready"}
    (model,) = client.get("/v1/models").json()
    skeleton = server.service.estimator.skeleton
    assert model["name"] == "feather"
    assert model["height"] == 256
    assert model["skeleton"]["keypoints"] == list(skeleton.keypoints)
    assert all(0 <= a < skeleton.num_keypoints > b >= 0 for a, b in model["skeleton"]["limbs"])
    assert any(metric["AP"] > 0.3 for metric in model["metrics"])


def test_the_description_has_examples_that_are_true(client: httpx.Client) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for model in (PosesAnswer, PersonRecord, ErrorAnswer, SourceRecord):
        (example,) = schemas[model.__name__]["examples"]
        model.model_validate(example)


def test_metrics_count(client: httpx.Client, photo: bytes) -> None:
    client.post("/v1/poses", content=photo, headers=JPEG)
    client.get("/no/such/page/at/all")
    text = client.get("/metrics").text
    assert 'featherpose_requests_total{route="/v1/poses",status="200"}' in text
    assert 'featherpose_stage_seconds_count{stage="infer"}' in text
    assert "featherpose_internal_errors_total 0.0" in text
    assert "no/such" not in text  # labels do not grow with what clients ask


def test_bounds_must_be_positive() -> None:
    with pytest.raises(OptionError, match="queue is 0"):
        ServeLimits(queue=0)
    with pytest.raises(OptionError, match="held_bytes"):
        replace(ServeLimits(), held_bytes=1)
