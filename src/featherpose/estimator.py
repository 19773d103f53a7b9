"""Picture in, everyone's keypoints out: preprocessing, network and decoder in one object."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Self, overload

import numpy as np
from jaxtyping import UInt8

from featherpose.codecs.paf.decoder import PafDecoder
from featherpose.codecs.paf.maps import Maps
from featherpose.codecs.paf.options import DecodeOptions
from featherpose.errors import OptionError, SourceError
from featherpose.geometry import Letterbox
from featherpose.poses import Poses
from featherpose.preprocess import as_bgr, fit, prepare
from featherpose.runtime.backend import Backend, EngineInfo, EngineOptions, ModelSpec, Pending, Precision
from featherpose.runtime.opening import open_backend
from featherpose.skeleton import Skeleton
from featherpose.tiles import TileOptions, TilePlan, merge_scales, stitch

if TYPE_CHECKING:
    from featherpose.zoo.resolving import ResolvedModel

__all__ = ["PendingPoses", "PoseEstimator", "StageTimes"]

# Pictures per inference of a list: enough to fill the engine, few enough that input and maps stay in megabytes.
_MAX_BATCH = 8
_MAX_HEIGHT_PX = 8192


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Where the time of one picture went.

    Attributes:
        prepare_ms: Resize and padding.
        infer_ms: The network; for `PoseEstimator.submit` with the wait for a free request.
        decode_ms: Maps to people.
    """

    prepare_ms: float
    infer_ms: float
    decode_ms: float

    @property
    def total_ms(self) -> float:
        """All three."""
        return self.prepare_ms + self.infer_ms + self.decode_ms


class PendingPoses:
    """A picture whose network is running; `result` waits and decodes, in the thread that calls it."""

    __slots__ = ("_finish", "_poses", "_times", "_wait")

    def __init__(self, wait: Callable[[], None], finish: Callable[[], tuple[Poses, StageTimes]]) -> None:
        self._wait = wait
        self._finish: Callable[[], tuple[Poses, StageTimes]] | None = finish
        self._poses: Poses | None = None
        self._times: StageTimes | None = None

    def wait(self) -> None:
        """Return when the network is done, well or not; the engine is then free for the next picture."""
        self._wait()

    def result(self) -> Poses:
        """Everyone in the picture; calling it again returns the same.

        Raises:
            ModelError: If the engine failed.
        """
        return self.timed_result()[0]

    def timed_result(self) -> tuple[Poses, StageTimes]:
        """Everyone in the picture, and where the time went."""
        if self._finish is not None:
            self._poses, self._times = self._finish()
            self._finish, self._wait = None, _done  # lets go of picture and maps
        assert self._poses is not None
        assert self._times is not None
        return self._poses, self._times


class PoseEstimator:
    """Finds everyone's keypoints in pictures.

    Any thread may call it, several at once; pictures of any size may follow each other.

    Args:
        model: A model file (``.xml``, ``.onnx``), a name of ``featherpose models list``, None for the bundled one, or
            what `resolve_model` made of one of these.
        height: Network input height in pixels; the width follows the picture. Higher finds smaller people and costs
            time in proportion to its square.
        engine: How the network runs.
        decode: The rules by which maps become people; those that suit the model unless given.
        precision: Replaces ``engine.precision``.
        threads: Replaces ``engine.threads``.
        device: Replaces ``engine.device``.
        tiles: Overlapping views of each picture, for small and far people.

    Raises:
        OptionError: If an option is outside its range.
        ModelError: If the model cannot be found, read or run here.

    Example:
        >>> nobody = np.full((240, 320, 3), 128, np.uint8)  # of a file: read_image("photo.jpg")
        >>> with PoseEstimator(height=128) as estimator:
        ...     estimator(nobody)
        Poses(0 people, openpose_18, 320x240)
    """

    def __init__(
        self,
        model: str | Path | ResolvedModel | None = None,
        *,
        height: int = 256,
        engine: EngineOptions | None = None,
        decode: DecodeOptions | None = None,
        precision: Precision | None = None,
        threads: int | None = None,
        device: str | None = None,
        tiles: TileOptions | None = None,
    ) -> None:
        from featherpose.zoo.resolving import ResolvedModel, resolve_model

        engine = engine or EngineOptions()
        engine = replace(
            engine,
            precision=engine.precision if precision is None else precision,
            threads=engine.threads if threads is None else threads,
            device=engine.device if device is None else device,
        )
        _check_height(height)
        resolved = model if isinstance(model, ResolvedModel) else resolve_model(model)
        self._set_up(open_backend(resolved.path, resolved.spec, engine), height, decode, tiles)

    @classmethod
    def from_backend(
        cls,
        backend: Backend,
        *,
        height: int = 256,
        decode: DecodeOptions | None = None,
        tiles: TileOptions | None = None,
    ) -> PoseEstimator:
        """An estimator on a network that is already open; closing the estimator closes it.

        Raises:
            OptionError: If the height is outside its range.
        """
        _check_height(height)
        estimator = cls.__new__(cls)
        estimator._set_up(backend, height, decode, tiles)
        return estimator

    def _set_up(self, backend: Backend, height: int, decode: DecodeOptions | None, tiles: TileOptions | None) -> None:
        self._backend = backend
        self._height = height
        self._tiles = tiles
        self._decoder = PafDecoder(backend.spec.skeleton, decode or backend.spec.decode)

    @property
    def info(self) -> EngineInfo:
        """What really runs: engine, device, precision, threads."""
        return self._backend.info

    @property
    def spec(self) -> ModelSpec:
        """What the model is."""
        return self._backend.spec

    @property
    def skeleton(self) -> Skeleton:
        """What the keypoints are."""
        return self._backend.spec.skeleton

    @property
    def height(self) -> int:
        """Network input height in pixels."""
        return self._height

    @property
    def decode_options(self) -> DecodeOptions:
        """The rules of decoding."""
        return self._decoder.options

    def __repr__(self) -> str:
        return f"PoseEstimator({self.spec.name}, height {self._height}, {self.info.engine}, {self.info.precision})"

    def warm_up(self) -> None:
        """Load the compiled kernels of the decoder, or compile them on the first run ever."""
        self._decoder.warm_up()

    @overload
    def __call__(self, image: np.ndarray) -> Poses: ...
    @overload
    def __call__(self, image: Sequence[np.ndarray]) -> list[Poses]: ...
    def __call__(self, image: np.ndarray | Sequence[np.ndarray]) -> Poses | list[Poses]:
        """Everyone in a picture, or in each picture of a list.

        Args:
            image: uint8[H, W, 3] in BGR order, or a list of such; grey pictures and a fourth channel are accepted.
                Pictures of a list may differ in size: those that give the same input size run through the network
                together.

        Returns:
            One `Poses`, or a list of them in the order of the pictures; people in pixels of their picture.

        Raises:
            SourceError: If something is not a picture of 8 bits a channel.
            ModelError: If the engine failed.
        """
        if isinstance(image, np.ndarray):
            return self.timed(image)[0]
        return self._estimate_list(image)

    def timed(self, image: np.ndarray) -> tuple[Poses, StageTimes]:
        """Everyone in one picture, and where the time went."""
        started = perf_counter()
        views = self._views(as_bgr(image))
        prepared = perf_counter()
        maps = [self._backend.infer(view.network_input) for view in views]
        inferred = perf_counter()
        poses = self._decode(views, maps)
        return poses, _stage_times(started, prepared, inferred, perf_counter())

    def submit(self, image: np.ndarray) -> PendingPoses:
        """Start a picture and return while its network runs; blocks only while all requests are busy.

        The picture is resized here, in the calling thread, and may be changed afterwards.

        Raises:
            SourceError: If it is not a picture of 8 bits a channel.
        """
        started = perf_counter()
        views = self._views(as_bgr(image))
        prepared = perf_counter()
        pending = [self._backend.submit(view.network_input) for view in views]
        inferred = 0.0

        def wait() -> None:
            nonlocal inferred
            for inference in pending:
                with suppress(Exception):  # raised again where the result is asked for
                    inference.result()
            inferred = inferred or perf_counter()

        def finish() -> tuple[Poses, StageTimes]:
            wait()
            maps = [inference.result() for inference in pending]
            began = perf_counter()
            poses = self._decode(views, maps)
            decode_ms = 1e3 * (perf_counter() - began)
            return poses, StageTimes(1e3 * (prepared - started), 1e3 * (inferred - prepared), decode_ms)

        return PendingPoses(wait, finish)

    def close(self) -> None:
        """Release the engine; the estimator cannot be used afterwards."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _views(self, image: UInt8[np.ndarray, "H W 3"]) -> list[_View]:
        """What the network is shown of a picture."""
        spec, tiles = self._backend.spec, self._tiles
        views = []
        if tiles is not None:
            size = (image.shape[1], image.shape[0])
            plan = TilePlan.fit(size, height=self._height, size_multiple=spec.size_multiple, options=tiles)
            cut = plan.cut(image, size_multiple=spec.size_multiple, pad_value=spec.pad_value)
            views.append(_View(cut, plan.letterbox, plan))
        if tiles is None or tiles.whole:
            whole = prepare(image, height=self._height, size_multiple=spec.size_multiple, pad_value=spec.pad_value)
            views.append(_View(*whole, None))
        return views

    def _decode(self, views: Sequence[_View], maps: Sequence[list[Maps]]) -> Poses:
        """People of all views together."""
        found = [
            self._decoder(some[0] if view.plan is None else stitch(some, view.plan), view.letterbox)
            for view, some in zip(views, maps, strict=True)
        ]
        if len(found) == 1:
            return found[0]
        assert self._tiles is not None
        return merge_scales(*found, same_person_oks=self._tiles.same_person_oks)

    def _estimate_list(self, images: Sequence[np.ndarray]) -> list[Poses]:
        """Batches of one input size; while one is in the network the next is resized and the last one decoded."""
        spec = self._backend.spec
        pictures: list[UInt8[np.ndarray, "H W 3"]] = []
        for index, image in enumerate(images):
            try:
                pictures.append(as_bgr(image))
            except SourceError as error:
                raise SourceError(f"picture {index}: {error.given}", expected=error.expected, hint=error.hint) from None
        if self._tiles is not None:
            return self._estimate_one_by_one(pictures)
        groups: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for index, picture in enumerate(pictures):
            size = (picture.shape[1], picture.shape[0])
            box = fit(size, height=self._height, size_multiple=spec.size_multiple)
            groups[box.network_size].append(index)
        results: list[Poses | None] = [None] * len(pictures)
        running: deque[tuple[list[int], list[Letterbox], Pending]] = deque()

        def finish_oldest() -> None:
            indices, boxes, pending = running.popleft()
            for index, box, maps in zip(indices, boxes, pending.result(), strict=True):
                results[index] = self._decoder(maps, box)

        for (width, rows), members in groups.items():
            for first in range(0, len(members), _MAX_BATCH):
                chunk = members[first : first + _MAX_BATCH]
                batch = np.empty((len(chunk), rows, width, 3), np.uint8)
                boxes = [
                    prepare(
                        pictures[index], height=self._height, size_multiple=spec.size_multiple,
                        pad_value=spec.pad_value, out=batch[slot],
                    )[1]
                    for slot, index in enumerate(chunk)
                ]  # fmt: skip
                running.append((chunk, boxes, self._backend.submit(batch)))
                if len(running) > 2:
                    finish_oldest()
        while running:
            finish_oldest()
        return [poses for poses in results if poses is not None]

    def _estimate_one_by_one(self, pictures: Sequence[UInt8[np.ndarray, "H W 3"]]) -> list[Poses]:
        """For tiles, which are a batch already: the next picture is cut while the last one is in the network."""
        poses, running = [], deque[PendingPoses]()
        for picture in pictures:
            running.append(self.submit(picture))
            if len(running) > 2:
                poses.append(running.popleft().result())
        return poses + [pending.result() for pending in running]


def _done() -> None:
    """Nothing to wait for."""


@dataclass(frozen=True, slots=True)
class _View:
    """What the network is shown: the whole picture, or (with a plan) its tiles."""

    network_input: UInt8[np.ndarray, "B h w 3"]
    letterbox: Letterbox
    plan: TilePlan | None


def _check_height(height: int) -> None:
    if not isinstance(height, int) or not 8 <= height <= _MAX_HEIGHT_PX:
        raise OptionError(f"height {height!r}", expected=f"a whole number of pixels from 8 to {_MAX_HEIGHT_PX}")


def _stage_times(started: float, prepared: float, inferred: float, decoded: float) -> StageTimes:
    return StageTimes(1e3 * (prepared - started), 1e3 * (inferred - prepared), 1e3 * (decoded - inferred))
