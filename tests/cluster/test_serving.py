"""The server on Ray Serve: the same routes and limits, sessions on one replica, and the manifests for Kubernetes."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from featherpose.cluster.serving import ReplicaOptions, application
from featherpose.errors import OptionError

MANIFESTS = sorted((Path(__file__).resolve().parents[2] / "deploy/kuberay").glob("*.yaml"))


def test_options_are_checked() -> None:
    with pytest.raises(OptionError, match="3 to 2 replicas"):
        ReplicaOptions(least=3, most=2)
    with pytest.raises(OptionError, match="0 cores"):
        ReplicaOptions(cores=0)


@pytest.mark.filterwarnings("ignore")  # Ray Serve's own, when it is loaded
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_are_what_kubernetes_and_the_code_take(
    path: Path, ray_is_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    yaml = pytest.importorskip("yaml")
    validate = pytest.importorskip("kubernetes_validate")
    manifest: dict[str, Any] = yaml.safe_load(path.read_text())
    assert manifest["apiVersion"] == "ray.io/v1"
    spec = manifest["spec"]
    cluster = spec.get("rayClusterSpec") or spec["rayClusterConfig"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **group["template"]}
        validate.validate(pod, "1.30", strict=True)
    if manifest["kind"] == "RayJob":
        from featherpose.cli.main import app

        _, bound, _ = app.parse_args(spec["entrypoint"].split()[1:])
        assert bound.arguments["out"] == "s3://archive/poses"
    else:
        monkeypatch.setenv("FEATHERPOSE_TOKEN", "0123456789abcdef")
        served = yaml.safe_load(spec["serveConfigV2"])["applications"][0]
        assert served["import_path"] == f"{application.__module__}:application"
        assert application(served["args"]) is not None
        with pytest.raises(OptionError, match="the argument color"):
            application({"color": "red"})
        monkeypatch.delenv("FEATHERPOSE_TOKEN")
        with pytest.raises(OptionError, match="no token"):
            application({})


@pytest.mark.slow
def test_two_replicas_answer_as_one_server(ray_is_here: None, grace_hopper: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = textwrap.dedent(f"""
        import asyncio, json, pathlib, struct
        import requests, websockets
        from featherpose.cluster import ReplicaOptions, serve
        from featherpose.server.options import ServeLimits, ServeOptions

        photo = pathlib.Path({str(grace_hopper)!r}).read_bytes()
        options = ServeOptions(port={port}, height=64, quality="fast", limits=ServeLimits(body_bytes=2_000_000))
        facts = {{}}

        async def session(url):
            async with websockets.connect(url) as socket:
                ids = []
                await socket.recv()
                for i in range(6):
                    await socket.send(struct.pack("<d", i / 10) + photo)
                    while (answer := json.loads(await socket.recv()))["type"] != "poses":
                        pass
                    ids.append([person["id"] for person in answer["people"]])
                return ids

        with serve(options, replicas=ReplicaOptions(least=2, most=2)) as server:
            facts["replicas"] = server.replicas()
            head = {{"Content-Type": "image/jpeg"}}
            facts["poses"] = requests.post(server.url + "/v1/poses", data=photo, headers=head).status_code
            large = requests.post(server.url + "/v1/poses", data=b"x" * 3_000_000, headers=head)
            facts["large"] = large.status_code
            facts["foreign"] = requests.get(server.url + "/v1/models", headers={{"Host": "evil.example"}}).status_code
            facts["ready"] = requests.get(server.url + "/readyz").status_code
            facts["ids"] = asyncio.run(session(server.url.replace("http", "ws") + "/v1/stream"))
        print(json.dumps(facts))
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    import json

    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["replicas"] == {"RUNNING": 2}
    assert (facts["poses"], facts["large"], facts["ready"]) == (200, 413, 200)
    assert facts["foreign"] >= 400
    assert facts["ids"][-1] == [0]  # one tracker saw all frames
