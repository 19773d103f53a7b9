"""The inference engines, and the way from a model file to a running backend.

A new engine is one module with a function that opens a file, and one line in `ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from featherpose.errors import MissingExtraError, ModelError, OptionError
from featherpose.runtime.backend import Backend, EngineOptions, ModelSpec
from featherpose.runtime.checks import check_address_space

__all__ = ["ENGINES", "MODEL_SUFFIXES", "Engine", "available_devices", "engine_named", "open_backend"]

Opener = Callable[[Path, ModelSpec, EngineOptions], Backend]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One inference engine; its package is imported only when a model is opened on it.

    Attributes:
        name: As ``--engine`` takes it.
        title: Readable name.
        suffixes: File suffixes that it reads, lower case.
        preferred: Suffixes for which ``auto`` takes it before the engines listed after it.
        packages: Python packages that it needs.
        extra: Extra of featherpose that installs them; empty if they are always installed.
        module: The module that imports the engine.
        opener: Name of the function there that opens a model file.
        lister: Name of the function there that returns the devices, name to description.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    preferred: tuple[str, ...]
    packages: tuple[str, ...]
    extra: str
    module: str
    opener: str
    lister: str

    @property
    def installed(self) -> bool:
        """Return whether all its packages are installed; an engine without an extra always is."""
        return not self.extra or all(find_spec(package) is not None for package in self.packages)

    def open(self, path: Path, spec: ModelSpec, options: EngineOptions) -> Backend:
        """Load a model file."""
        opener: Opener = getattr(import_module(self.module), self.opener)
        return opener(path, spec, options)

    def devices(self) -> dict[str, str]:
        """Return the devices of this machine, name to description; empty if the engine is not installed.

        Raises:
            ModelError: If the engine is installed and does not load.
        """
        if not self.installed:
            return {}
        try:
            lister: Callable[[], dict[str, str]] = getattr(import_module(self.module), self.lister)
            return lister()
        except Exception as error:  # any reason that keeps an engine from loading
            raise ModelError(
                f"{self.name} does not load here ({type(error).__name__}: {error})",
                hint=f"pip install --force-reinstall {self.name}",
            ) from error


ENGINES: tuple[Engine, ...] = (
    Engine(
        name="onnxruntime",
        title="ONNX Runtime",
        suffixes=(".onnx",),
        preferred=(".onnx",),
        packages=("onnxruntime", "onnx"),
        extra="onnx",
        module="featherpose.runtime.onnxruntime",
        opener="open_onnxruntime",
        lister="onnxruntime_devices",
    ),
    Engine(
        name="openvino",
        title="OpenVINO",
        suffixes=(".xml", ".onnx", ".tflite"),
        preferred=(".xml", ".onnx", ".tflite"),
        packages=("openvino",),
        extra="",
        module="featherpose.runtime.openvino.backend",
        opener="open_openvino",
        lister="openvino_devices",
    ),
)
"""Every engine, in the order in which ``auto`` asks them."""

MODEL_SUFFIXES: tuple[str, ...] = tuple(sorted({suffix for engine in ENGINES for suffix in engine.suffixes}))
"""Suffixes of model files that some engine reads."""


def engine_named(name: str) -> Engine:
    """Look an engine up.

    Raises:
        OptionError: If there is none of that name.

    Example:
        >>> engine_named("openvino").suffixes
        ('.xml', '.onnx', '.tflite')
    """
    for engine in ENGINES:
        if engine.name == name:
            return engine
    names = ", ".join(engine.name for engine in ENGINES)
    raise OptionError(f"engine {name!r} is unknown", expected=f"auto or one of {names}")


def open_backend(path: Path, spec: ModelSpec, options: EngineOptions | None = None) -> Backend:
    """Load a model file on the engine that suits it.

    The backend may be used after ``os.fork()``: the child opens the model again.

    Args:
        path: ``.xml`` (OpenVINO IR, its ``.bin`` beside it), ``.onnx`` or ``.tflite``.
        spec: What the pipeline must know of the model.
        options: How to run it; ``auto`` takes the first installed engine that prefers files of this suffix.

    Raises:
        ModelError: If the file is missing, damaged, of another architecture, or cannot run here as asked.
        OptionError: If engine and file do not go together.
        MissingExtraError: If an engine is asked for and not installed.
        OutOfMemoryError: If the process may not have the memory for any network.
    """
    options = options or EngineOptions()
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in MODEL_SUFFIXES:
        raise ModelError(
            f"{path} is not a model file that featherpose knows",
            expected=f"a file ending in {', '.join(MODEL_SUFFIXES)}",
        )
    for needed in (path, path.with_suffix(".bin")) if suffix == ".xml" else (path,):
        if not needed.is_file():
            raise ModelError(
                f"there is no model file {needed}", hint="check the path, or fetch a model: featherpose models list"
            )
        if needed.stat().st_size == 0:
            raise ModelError(f"{needed} is empty", hint="fetch it again")
    check_address_space()
    engine = _engine_for(path, options.engine)
    return engine.open(path, spec, options)


def available_devices(engine: str) -> dict[str, str]:
    """Return the devices of this machine on which an engine can run models; empty if it is not installed.

    Args:
        engine: Name of an engine.

    Raises:
        OptionError: If there is no such engine.
        ModelError: If the engine is installed and does not load.

    Example:
        >>> "CPU" in available_devices("openvino")
        True
    """
    return engine_named(engine).devices()


def _engine_for(path: Path, wanted: str) -> Engine:
    suffix = path.suffix.lower()
    if wanted == "auto":
        for engine in ENGINES:
            if suffix in engine.preferred and engine.installed:
                return engine
        raise ModelError(f"no installed engine reads {path}", hint="run: featherpose doctor")
    engine = engine_named(wanted)
    if suffix not in engine.suffixes:
        raise OptionError(
            f"{engine.title} cannot read {path}",
            expected=f"a file ending in {' or '.join(engine.suffixes)}",
            hint="or leave the engine to auto",
        )
    if not engine.installed:
        raise MissingExtraError(f"running a model on {engine.title}", engine.extra)
    return engine
