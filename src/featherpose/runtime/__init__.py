"""Inference engines behind one protocol; each engine is imported only in its own module."""

from featherpose.runtime.backend import Backend, EngineInfo, EngineOptions, ModelSpec, Pending, Precision
from featherpose.runtime.engines import available_devices, open_backend

__all__ = [
    "Backend",
    "EngineInfo",
    "EngineOptions",
    "ModelSpec",
    "Pending",
    "Precision",
    "available_devices",
    "open_backend",
]
