"""What the server sends out of a source has its heads hidden, and so has an annotated image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from pose_server import Start

from featherpose.augment.effects import EffectOptions
from featherpose.server.options import ServeOptions

FILL = (48, 48, 48)


def filled(jpeg: bytes) -> float:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return float((np.abs(image.astype(int) - FILL).max(-1) < 8).mean())


def test_heads_are_hidden_in_every_image(start: Start, walk: Path, grace_hopper: Path) -> None:
    effects = EffectOptions(anonymize="box")
    with start(ServeOptions(sources={"walk": str(walk)}, effects=effects)) as running, running.client() as client:
        with client.stream("GET", "/v1/sources/walk/view", params={"annotated": "false"}) as answer:
            data = b""
            for chunk in answer.iter_bytes():
                data += chunk
                if data.count(b"\xff\xd9") >= 3:
                    break
        jpeg = data[data.index(b"\xff\xd8") : data.index(b"\xff\xd9") + 2]
        assert filled(jpeg) > 0.02
        annotated = client.post(
            "/v1/poses", params={"annotated": "true"}, content=grace_hopper.read_bytes(),
            headers={"Content-Type": "image/jpeg"},
        )  # fmt: skip
        assert annotated.status_code == 200
        assert filled(annotated.content) > 0.02
