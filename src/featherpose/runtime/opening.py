"""From a model file to a running backend."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from featherpose.errors import MissingExtraError, ModelError, OptionError
from featherpose.runtime.backend import Backend, EngineName, EngineOptions, ModelSpec

__all__ = ["available_devices", "open_backend"]

_OPENVINO_SUFFIXES = (".xml", ".onnx", ".tflite")


def open_backend(path: Path, spec: ModelSpec, options: EngineOptions | None = None) -> Backend:
    """Load a model file on the engine that suits it.

    Args:
        path: ``.xml`` (OpenVINO IR, its ``.bin`` beside it), ``.onnx`` or ``.tflite``.
        spec: What the pipeline must know of the model.
        options: How to run it; `EngineOptions` says which engine ``auto`` means.

    Raises:
        ModelError: If the file is missing, damaged, of another architecture, or cannot run here as asked.
        OptionError: If engine and file do not go together.
        MissingExtraError: If ONNX Runtime is asked for and not installed.
    """
    options = options or EngineOptions()
    path = Path(path)
    if path.suffix.lower() not in _OPENVINO_SUFFIXES:
        raise ModelError(
            f"{path} is not a model file that featherpose knows", expected="a file ending in .xml, .onnx or .tflite"
        )
    for needed in (path, path.with_suffix(".bin")) if path.suffix.lower() == ".xml" else (path,):
        if not needed.is_file():
            raise ModelError(
                f"there is no model file {needed}", hint="check the path, or fetch a model: featherpose models list"
            )
        if needed.stat().st_size == 0:
            raise ModelError(f"{needed} is empty", hint="fetch it again")
    if _engine(path, options) == "onnxruntime":
        if find_spec("onnxruntime") is None or find_spec("onnx") is None:
            raise MissingExtraError("running a model on ONNX Runtime", "onnx")
        from featherpose.runtime.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(path, spec, options)
    from featherpose.runtime.openvino import OpenVinoBackend

    return OpenVinoBackend(path, spec, options)


def available_devices(engine: EngineName) -> dict[str, str]:
    """What an engine can run models on, on this machine; empty if it is not installed.

    Args:
        engine: ``openvino`` or ``onnxruntime``.

    Raises:
        ModelError: If the engine is installed and does not load.

    Example:
        >>> "CPU" in available_devices("openvino")
        True
    """
    try:
        if engine == "onnxruntime":
            if find_spec("onnxruntime") is None or find_spec("onnx") is None:
                return {}
            from featherpose.runtime.onnxruntime import onnxruntime_devices

            return onnxruntime_devices()
        from featherpose.runtime.openvino import openvino_devices

        return openvino_devices()
    except Exception as error:  # whatever keeps an engine from loading
        raise ModelError(
            f"{engine} does not load here ({type(error).__name__}: {error})",
            hint=f"pip install --force-reinstall {engine}",
        ) from error


def _engine(path: Path, options: EngineOptions) -> str:
    is_onnx = path.suffix.lower() == ".onnx"
    if options.engine == "auto":
        return "onnxruntime" if is_onnx and find_spec("onnxruntime") and find_spec("onnx") else "openvino"
    if options.engine == "onnxruntime" and not is_onnx:
        raise OptionError(
            f"ONNX Runtime cannot read {path}", expected="an .onnx file", hint="or leave the engine to auto"
        )
    return options.engine
