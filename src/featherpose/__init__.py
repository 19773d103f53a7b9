"""featherpose: real-time multi-person 2D human pose estimation that runs well on an ordinary CPU.

Public names are loaded when they are first used, so that ``import featherpose`` costs next to nothing.

Example:
    >>> import featherpose
    >>> featherpose.COCO_17.num_keypoints
    17
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Public name -> the module that defines it.
_PUBLIC = {
    "BODY_25": "skeleton",
    "COCO_17": "skeleton",
    "LSP_14": "skeleton",
    "OPENPOSE_18": "skeleton",
    "DecodeOptions": "codecs.paf.options",
    "EngineOptions": "runtime.backend",
    "FeatherposeError": "errors",
    "Letterbox": "geometry",
    "Maps": "codecs.paf.maps",
    "FrameResult": "stream",
    "PoseEstimator": "estimator",
    "PoseSmoother": "tracking",
    "PoseTracker": "tracking",
    "Poses": "poses",
    "ReconnectOptions": "media.sources",
    "Skeleton": "skeleton",
    "SmoothOptions": "tracking",
    "StreamOptions": "stream",
    "TileOptions": "tiles",
    "TrackOptions": "tracking",
    "draw_poses": "media.draw",
    "load_skeleton": "skeleton",
    "oks_matrix": "similarity",
    "open_source": "media.sources",
    "process_stream": "stream",
    "process_streams": "stream",
    "read_image": "media.images",
}

__all__ = ["__version__", *sorted(_PUBLIC)]

if TYPE_CHECKING:
    from featherpose.codecs.paf.maps import Maps as Maps
    from featherpose.codecs.paf.options import DecodeOptions as DecodeOptions
    from featherpose.errors import FeatherposeError as FeatherposeError
    from featherpose.estimator import PoseEstimator as PoseEstimator
    from featherpose.geometry import Letterbox as Letterbox
    from featherpose.media.draw import draw_poses as draw_poses
    from featherpose.media.images import read_image as read_image
    from featherpose.media.sources import ReconnectOptions as ReconnectOptions
    from featherpose.media.sources import open_source as open_source
    from featherpose.poses import Poses as Poses
    from featherpose.runtime.backend import EngineOptions as EngineOptions
    from featherpose.similarity import oks_matrix as oks_matrix
    from featherpose.skeleton import BODY_25 as BODY_25
    from featherpose.skeleton import COCO_17 as COCO_17
    from featherpose.skeleton import LSP_14 as LSP_14
    from featherpose.skeleton import OPENPOSE_18 as OPENPOSE_18
    from featherpose.skeleton import Skeleton as Skeleton
    from featherpose.skeleton import load_skeleton as load_skeleton
    from featherpose.stream import FrameResult as FrameResult
    from featherpose.stream import StreamOptions as StreamOptions
    from featherpose.stream import process_stream as process_stream
    from featherpose.stream import process_streams as process_streams
    from featherpose.tiles import TileOptions as TileOptions
    from featherpose.tracking import PoseSmoother as PoseSmoother
    from featherpose.tracking import PoseTracker as PoseTracker
    from featherpose.tracking import SmoothOptions as SmoothOptions
    from featherpose.tracking import TrackOptions as TrackOptions


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        value: object = getattr(import_module(f"featherpose.{_PUBLIC[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'featherpose' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
