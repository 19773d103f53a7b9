"""A backend that was opened before ``os.fork()`` answers in the child, and neither process hangs at its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paf_models import paf_spec

from featherpose.errors import ModelError
from featherpose.runtime import open_backend
from featherpose.runtime.engine_backend import EngineBackend

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

# In a process of its own: what a hanging child leaves behind must not end in the tests' process.
SCRIPT = """
import os, signal, sys
from pathlib import Path
import numpy as np
from featherpose.methods.paf.method import PAF
from featherpose.runtime import EngineOptions, ModelSpec, open_backend
from featherpose.skeleton import OPENPOSE_18

images = np.random.default_rng(0).integers(0, 255, (2, 64, 128, 3), dtype=np.uint8)
spec = ModelSpec(name="small", skeleton=OPENPOSE_18, method=PAF, outputs=PAF.outputs(OPENPOSE_18))
backend = open_backend(Path(sys.argv[1]), spec, EngineOptions(engine=sys.argv[2], num_streams=2))
expected = backend.infer(images)
pending = backend.submit(images)
children = []
for use in ("infer", "submit", "both", "nothing", "close"):
    pid = os.fork()
    if pid == 0:
        signal.alarm(300)  # ends a child that hangs
        found = [backend.infer(images)] if use in ("infer", "both") else []
        found += [backend.submit(images).result()] if use in ("submit", "both") else []
        if use in ("both", "close"):
            backend.close()
        for maps in found:
            np.testing.assert_array_equal(maps[1]["heatmaps"], expected[1]["heatmaps"])
        if sys.argv[2] == "onnxruntime":  # waits for its dead threads at a full exit, used or not
            os._exit(0)  # as multiprocessing ends its children
        sys.exit(0)  # with all that Python and C++ do at the end of a process
    children.append((use, pid))
print([(use, os.waitpid(pid, 0)[1]) for use, pid in children])
np.testing.assert_array_equal(pending.result()[1]["heatmaps"], expected[1]["heatmaps"])
np.testing.assert_array_equal(backend.infer(images)[0]["heatmaps"], expected[0]["heatmaps"])
backend.close()
"""


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_children_reopen_the_model(engine: str, small_ir: Path, small_onnx: Path) -> None:
    model = small_ir if engine == "openvino" else small_onnx
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(model), engine],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([(use, 0) for use in ("infer", "submit", "both", "nothing", "close")])


def test_a_closed_backend_stays_closed(small_ir: Path) -> None:

    backend = open_backend(small_ir, paf_spec(name="small"))
    assert isinstance(backend, EngineBackend)
    backend.close()
    backend._leave_to_parent()  # what happens to it in a child
    with pytest.raises(ModelError, match="was closed"):
        backend.infer(np.zeros((1, 64, 64, 3), np.uint8))
