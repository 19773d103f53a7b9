"""``featherpose doctor``: what this machine offers, what is missing and how to install it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from featherpose import __version__
from featherpose.files import write_bytes

__all__ = ["doctor", "examine"]

_PACKAGES = ("numpy", "numba", "openvino", "opencv-python-headless", "scipy", "cyclopts", "rich", "pydantic")
# Extra -> (what it is for, the modules that it installs).
_EXTRAS = {
    "onnx": ("ONNX models", ("onnx", "onnxruntime")),
    "video": ("H.264 video with sound", ("av",)),
    "parquet": ("Parquet tables", ("pyarrow",)),
    "eval": ("COCO AP and its plots", ("pycocotools", "matplotlib")),
    "train": ("training and export", ("torch", "safetensors", "tensorboard")),
    "int8": ("quantization", ("nncf",)),
    "serve": ("the web service", ("fastapi", "uvicorn")),
}


def doctor(*, json_file: Annotated[Path | None, Parameter(name="--json", help="The same as JSON.")] = None) -> int:
    """Show versions, processor, engines, devices, video codecs and caches, and how to install what is missing.

    The exit code is 1 if something needed for images and videos does not work.
    """
    report = examine()
    if json_file is not None:
        write_bytes(json_file, (json.dumps(report, indent=1) + "\n").encode())
    for line in _lines(report):
        print(line)
    return 1 if report["problems"] else 0


def examine() -> dict[str, Any]:
    """Return all findings as plain data; nothing is changed, downloaded or written.

    Example:
        >>> sorted(examine())
        ['caches', 'engines', 'extras', 'featherpose', 'machine', 'models', 'packages', 'problems', 'python', 'video']
    """
    problems: list[str] = []
    return {
        "featherpose": __version__,
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "machine": _machine(),
        "packages": _packages(problems),
        "extras": _extras(),
        "engines": _engines(problems),
        "video": _video(problems),
        "models": _models(),
        "caches": _caches(),
        "problems": problems,
    }


def _machine() -> dict[str, Any]:
    import psutil

    from featherpose.runtime.processor import available_cores, processor

    this = processor()
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": this.name,
        "architecture": platform.machine(),
        "cores": available_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "features": {"INT8 dot products": this.int8_dot, "bfloat16": this.bf16, "float16": this.fp16},
    }


def _packages(problems: list[str]) -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    if find_spec("cv2") is None:
        problems.append("OpenCV is missing; run: pip install opencv-python-headless")
    rivals = [n for n in ("opencv-python", "opencv-contrib-python") if _installed(n)]
    if rivals and versions["opencv-python-headless"]:
        problems.append(
            f"{rivals[0]} and opencv-python-headless overwrite each other's files; "
            f"run: pip uninstall {rivals[0]} opencv-python-headless, then pip install opencv-python-headless"
        )
    return versions


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _extras() -> dict[str, dict[str, Any]]:
    return {
        extra: {
            "for": purpose,
            "missing": [module for module in modules if find_spec(module) is None],
            "install": f'pip install "featherpose[{extra}]"',
        }
        for extra, (purpose, modules) in _EXTRAS.items()
    }


def _engines(problems: list[str]) -> dict[str, dict[str, str]]:
    """Return the devices of every installed engine, name to description."""
    from featherpose.errors import ModelError
    from featherpose.runtime.engines import ENGINES

    engines: dict[str, dict[str, str]] = {}
    for engine in ENGINES:
        if not engine.installed:
            continue
        try:
            engines[engine.name] = engine.devices()
        except ModelError as error:
            engines[engine.name] = {}
            problems.append(str(error))
    return engines


def _video(problems: list[str]) -> dict[str, Any]:
    import cv2

    # One line of OpenCV's build report: "FFMPEG:  YES".
    ffmpeg = any(line.split() == ["FFMPEG:", "YES"] for line in cv2.getBuildInformation().splitlines())
    if not ffmpeg:
        problems.append("this OpenCV was built without FFmpeg and reads few videos; the wheels of PyPI have it")
    written = "MPEG-4 Part 2 without sound (OpenCV)"
    if find_spec("av") is not None:
        try:
            import av

            written = "H.264 with sound (PyAV)" if "libx264" in av.codecs_available else "MPEG-4 with sound (PyAV)"
        except Exception as error:
            problems.append(f"PyAV does not load ({error}); run: pip install --force-reinstall av")
    return {"opencv": cv2.__version__, "ffmpeg": ffmpeg, "writes": written}


def _models() -> dict[str, Any]:
    from featherpose.errors import FeatherposeError
    from featherpose.zoo.resolve import resolve_model

    try:
        return {"default": str(resolve_model(None).path)}
    except FeatherposeError as error:
        return {"default": None, "reason": str(error)}


def _caches() -> dict[str, Any]:
    import platformdirs

    from featherpose.jit import kernel_cache, kernels_are_cached
    from featherpose.zoo.catalog import bundled_card

    kernels = kernel_cache()
    root = platformdirs.user_cache_path("featherpose", appauthor=False)
    card = bundled_card()
    decoding = card.spec().method.kernel_modules if card is not None else ()
    existing = next((parent for parent in (root, *root.parents) if parent.exists()), None)
    return {
        "folder": str(root),
        "free_gb": round(shutil.disk_usage(existing).free / 1e9, 1) if existing is not None else None,
        "kernels": str(kernels) if kernels is not None else None,
        "kernels_compiled": kernels_are_cached(*decoding),
    }


def _lines(report: dict[str, Any]) -> list[str]:
    machine, caches, models = report["machine"], report["caches"], report["models"]
    features = [name for name, there in machine["features"].items() if there]
    lines = [
        f"featherpose  {report['featherpose']}, Python {report['python']['version']}",
        f"processor    {machine['processor']}, {machine['cores']} cores for us, {machine['memory_gb']} GB",
        f"             native: {', '.join(features) or 'float32 only, as far as is known'}",
        f"system       {machine['system']}, {machine['architecture']}",
        "packages     " + ", ".join(f"{name} {version or 'MISSING'}" for name, version in report["packages"].items()),
    ]
    for engine, devices in report["engines"].items():
        lines += [f"{engine:12} {device}: {name}" for device, name in devices.items()]
    lines += [
        f"video        writes {report['video']['writes']}",
        f"model        {models['default'] or 'none bundled: ' + models['reason']}",
        f"kernels      {caches['kernels'] or 'no writable cache: compiled in every process'}"
        + (", compiled" if caches["kernels_compiled"] else ", compiled on first use"),
        f"cache        {caches['folder']}, {caches['free_gb']} GB free",
    ]
    for extra, state in report["extras"].items():
        if state["missing"]:
            lines.append(f"missing      {extra}: {state['for']}; {state['install']}")
    lines += [f"PROBLEM      {problem}" for problem in report["problems"]]
    if not report["problems"]:
        lines.append("ok           images and videos can be processed")
    return lines
