"""Compose the photograph that ``featherpose demo`` looks at: three public-domain ones side by side.

    python scripts/demo_photograph.py

Sources and licenses are in `src/featherpose/demo/README.md`, which goes into the package with the image.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import skimage.data
from matplotlib import cbook

TARGET = Path(__file__).resolve().parents[1] / "src/featherpose/demo/people.jpg"
_HEIGHT_PX = 512
_MAX_BYTES = 150_000


def compose() -> np.ndarray:
    """Return uint8[512, 1267, 3] BGR: Eileen Collins, Grace Hopper, a man with a film camera."""
    astronaut = np.asarray(skimage.data.astronaut())[..., ::-1]  # type: ignore[no-untyped-call]
    commodore = cv2.imread(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    camera = cv2.cvtColor(skimage.data.camera(), cv2.COLOR_GRAY2BGR)  # type: ignore[no-untyped-call]
    assert commodore is not None
    width = round(commodore.shape[1] * _HEIGHT_PX / commodore.shape[0])
    commodore = cv2.resize(commodore, (width, _HEIGHT_PX), interpolation=cv2.INTER_AREA)
    return np.hstack([astronaut[:, 10:460], commodore, camera[:, 40:420]])


def main() -> None:
    """Write the image, as good as its limit allows."""
    image = compose()
    for quality in range(92, 50, -2):
        whole, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if whole and len(data) <= _MAX_BYTES:
            TARGET.write_bytes(data.tobytes())
            print(f"{TARGET.name}: {len(data):,} bytes, quality {quality}")
            return
    raise SystemExit("the photograph does not fit its limit")


if __name__ == "__main__":
    main()
