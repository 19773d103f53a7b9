"""Every method on outputs in which nobody is seen: no people, and no error."""

from __future__ import annotations

import numpy as np
import pytest

from featherpose.geometry import Letterbox
from featherpose.methods import METHODS
from featherpose.methods.boxes.person_boxes import PERSON_BOX
from featherpose.methods.method import Method
from featherpose.skeleton import COCO_17

# Numbers in a row of outputs that are rows, for 17 keypoints.
_ROWS = {"boxes": 4, "scores": 1, "places": 51}


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_nobody_is_found_where_nothing_is_seen(method: Method) -> None:
    skeleton = PERSON_BOX if method.name == "person-boxes" else COCO_17
    outputs = method.outputs(skeleton)
    letterbox = Letterbox.fit((64, 64), height=64, multiple=32)
    maps = {
        output.name: np.zeros(
            (1, 3, _ROWS[output.name]) if output.name in _ROWS else (output.channels, 8, 8), np.float32
        )
        for output in outputs
    }
    decode = method.decoder(skeleton, outputs)
    assert len(decode(maps, letterbox)) == 0
