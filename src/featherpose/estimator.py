"""Image in, everyone's keypoints out: preprocessing, network and decoder in one object."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
from jaxtyping import UInt8

from featherpose.errors import ModelError, OptionError, SourceError
from featherpose.jit import kernels_are_cached
from featherpose.media.images import read_image
from featherpose.methods.boxes.person_boxes import PERSON_BOX
from featherpose.methods.method import Arrays, keep_everyone
from featherpose.opening import open_networks
from featherpose.poses import Poses
from featherpose.preprocess import as_bgr
from featherpose.quality import Quality, QualityName, model_of, quality_named
from featherpose.runtime.backend import Backend, EngineInfo, EngineOptions, ModelSpec, Precision
from featherpose.skeleton import Skeleton
from featherpose.tiling import TileOptions
from featherpose.topdown.refinement import Refiner
from featherpose.topdown.topdown_options import RefineMode, RefineOptions
from featherpose.views import View, ViewOptions, decode_views, make_views

if TYPE_CHECKING:
    from featherpose.zoo.resolve import ResolvedModel

__all__ = ["PendingPoses", "PoseEstimator", "StageTimes"]

# Images under way in `PoseEstimator.map`: two in the engine, of which one waits with its input in place, and one that
# is being decoded.
_IN_FLIGHT = 3


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Times of one image by stage.

    Attributes:
        preprocess_ms: Resize and padding.
        inference_ms: The network; for `PoseEstimator.submit` with the wait for a free request.
        postprocess_ms: Maps to people.
        refine_ms: People looked at again, one at a time; 0 without refinement.
    """

    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float
    refine_ms: float = 0.0

    @property
    def total_ms(self) -> float:
        """Return the sum of all stages."""
        return sum(self.by_stage().values())

    def by_stage(self) -> dict[str, float]:
        """Return milliseconds by stage name, in the order in which an image passes the stages.

        Example:
            >>> StageTimes(0.5, 20.0, 1.0, 6.0).by_stage()
            {'prepare': 0.5, 'infer': 20.0, 'decode': 1.0, 'refine': 6.0}
        """
        return {
            "prepare": self.preprocess_ms,
            "infer": self.inference_ms,
            "decode": self.postprocess_ms,
            "refine": self.refine_ms,
        }


class PendingPoses:
    """An image whose network is running; `result` waits and decodes, in the thread that calls it."""

    __slots__ = ("_finish", "_poses", "_times", "_wait")

    def __init__(self, wait: Callable[[], None], finish: Callable[[], tuple[Poses, StageTimes]]) -> None:
        self._wait = wait
        self._finish: Callable[[], tuple[Poses, StageTimes]] | None = finish
        self._poses: Poses | None = None
        self._times: StageTimes | None = None

    def wait(self) -> None:
        """Return when the network is done, successfully or not; the engine is then free for the next image."""
        self._wait()

    def result(self) -> Poses:
        """Return everyone in the image; calling it again returns the same.

        Raises:
            ModelError: If the engine failed.
        """
        return self.timed_result()[0]

    def timed_result(self) -> tuple[Poses, StageTimes]:
        """Return everyone in the image, and the times by stage."""
        if self._finish is not None:
            self._poses, self._times = self._finish()
            self._finish, self._wait = None, _done  # releases image and maps
        assert self._poses is not None
        assert self._times is not None
        return self._poses, self._times


class PoseEstimator:
    """Finds everyone's keypoints in images.

    Any thread may call it, several at once; images of any size may follow each other.

    Args:
        model: A model file (``.xml``, ``.onnx``), a name of ``featherpose models list``, None for the bundled one, or
            what `resolve_model` made of one of these.
        quality: ``fast``, ``balanced`` or ``best``, or a `Quality`: height, scales, mirrored image and refinement that
            suit each other. The following options replace single parts of it.
        height: Network input height in pixels; the width follows the image. Higher finds smaller people and costs
            time in proportion to its square.
        scales: Multiples of the height at which each image is seen; outputs are averaged.
        mirror: Whether the mirrored image is seen as well.
        refine: ``off``, ``auto`` or ``all``, or `RefineOptions`: who is looked at again by a single-person network.
            Skeletons that it does not know are left alone unless `RefineOptions` ask for it.
        engine: How the network runs.
        options: Decoding options of the model's method (`featherpose.PafOptions` for the bundled network); those
            that suit the model unless given.
        precision: Replaces ``engine.precision``.
        threads: Replaces ``engine.threads``.
        device: Replaces ``engine.device``.
        tiles: Overlapping views of each image instead of scales, for small and far people.
        candidates: Also tell every place that looks like a keypoint with at least this score, as ``Poses.candidates``.

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
        quality: QualityName | Quality = "balanced",
        height: int | None = None,
        scales: Sequence[float] | None = None,
        mirror: bool | None = None,
        refine: RefineMode | RefineOptions | None = None,
        engine: EngineOptions | None = None,
        options: Any | None = None,
        precision: Precision | None = None,
        threads: int | None = None,
        device: str | None = None,
        tiles: TileOptions | None = None,
        candidates: float | None = None,
    ) -> None:
        from featherpose.zoo.resolve import ResolvedModel, resolve_model

        engine = engine or EngineOptions()
        engine = replace(
            engine,
            precision=engine.precision if precision is None else precision,
            threads=engine.threads if threads is None else threads,
            device=engine.device if device is None else device,
        )
        level = quality_named(quality)
        whole = tiles is None
        views = ViewOptions(
            height=level.height if height is None else height,
            scales=(level.scales if whole else (1.0,)) if scales is None else tuple(scales),
            mirror=(level.mirror and whole) if mirror is None else mirror,
            tiles=tiles,
        )
        asked = RefineOptions(mode=refine) if isinstance(refine, str) else refine
        resolved = model if isinstance(model, ResolvedModel) else resolve_model(model_of(model, level))
        if resolved.spec.crop is not None:
            raise ModelError(
                f"model {resolved.spec.name} sees one person at a time",
                expected="a network that sees whole images",
                hint="give it as the refiner: --refiner in commands, RefineOptions(model=...) in Python",
            )

        def load_kernels() -> None:
            # Those that have to be compiled first wait for `warm_up`.
            if kernels_are_cached(*resolved.spec.method.kernel_modules):
                resolved.spec.decoder(options).warm_up()

        backend, refiner = open_networks(
            resolved, engine, asked or level.refine, demanded=asked is not None, meanwhile=load_kernels
        )
        try:
            self._set_up(backend, views, options, refiner, level.name, candidates)
        except BaseException:
            for network in (backend, refiner):
                if network is not None:
                    network.close()
            raise

    @classmethod
    def from_backend(
        cls,
        backend: Backend,
        *,
        height: int = 256,
        options: Any | None = None,
        tiles: TileOptions | None = None,
        refiner: Refiner | None = None,
        candidates: float | None = None,
    ) -> PoseEstimator:
        """Make an estimator on networks that are already open; closing the estimator closes them.

        Raises:
            OptionError: If the height is outside its range.
        """
        estimator = cls.__new__(cls)
        estimator._set_up(backend, ViewOptions(height=height, tiles=tiles), options, refiner, "fast", candidates)
        return estimator

    def _set_up(
        self,
        backend: Backend,
        views: ViewOptions,
        options: Any | None,
        refiner: Refiner | None,
        quality: str,
        candidates: float | None,
    ) -> None:
        if candidates is not None and not 0 <= candidates <= 1:
            raise OptionError(f"candidates from score {candidates:g} on", expected="0 to 1")
        self._candidates = candidates
        self._backend = backend
        self._view_options = views
        self._refiner = refiner
        self._quality = quality
        decoder = backend.spec.decoder(options)
        self._decoder = decoder if refiner is None else backend.spec.decoder(keep_everyone(decoder.options))

    @property
    def info(self) -> EngineInfo:
        """Return the facts of the running engine: engine, device, precision, threads."""
        return self._backend.info

    @property
    def spec(self) -> ModelSpec:
        """Return the facts of the model."""
        return self._backend.spec

    @property
    def skeleton(self) -> Skeleton:
        """Return the keypoints and limbs of the results: behind a detector those of the single-person network."""
        own = self._backend.spec.skeleton
        return self._refiner.skeleton if own == PERSON_BOX and self._refiner is not None else own

    @property
    def height(self) -> int:
        """Return the network input height in pixels."""
        fixed = self.spec.fixed_size
        return self._view_options.height if fixed is None else fixed[1]

    @property
    def refiner(self) -> Refiner | None:
        """Return the refiner, if people are refined."""
        return self._refiner

    def at_height(self, height: int) -> PoseEstimator:
        """Return an estimator on the same networks with another input height; closing either closes both.

        Raises:
            OptionError: If the height is outside its range.
        """
        estimator = PoseEstimator.__new__(PoseEstimator)
        views = replace(self._view_options, height=height)
        estimator._set_up(self._backend, views, self.options, self._refiner, self._quality, self._candidates)
        return estimator

    @property
    def options(self) -> Any:
        """Return the decoding options of the model's method."""
        return self._decoder.options

    def __repr__(self) -> str:
        return f"PoseEstimator({self.spec.name}, height {self.height}, {self.info.engine}, {self.info.precision})"

    def warm_up(self) -> None:
        """Load the compiled kernels of the decoders, or compile them on the first run ever."""
        self._decoder.warm_up()
        if self._refiner is not None:
            self._refiner.warm_up()

    def describe(self) -> dict[str, Any]:
        """Return the facts of a run: model, method, what it sees, refinement, engine, device, precision and threads.

        ``budget_crops`` is the most crops an image, None for as many as there are people.

        Example:
            >>> with PoseEstimator(height=128) as estimator:
            ...     facts = estimator.describe()
            >>> facts["model"], facts["method"], facts["height"]
            ('feather', 'paf', 128)
        """
        info, refiner = self.info, self._refiner
        return {
            "model": self.spec.name,
            "method": self.spec.method.name,
            "quality": self._quality,
            "height": self.height,
            "scales": list(self._view_options.scales),
            "mirror": self._view_options.mirror,
            "refiner": None if refiner is None else refiner.model,
            "budget_crops": 0 if refiner is None else refiner.budget_crops,
            "precision": info.precision,
            "float_precision": info.float_precision,
            "engine": info.engine,
            "device": info.device,
            "threads": info.threads,
        }

    @overload
    def __call__(self, image: list[Any] | tuple[Any, ...]) -> list[Poses]: ...
    @overload
    def __call__(self, image: np.ndarray | str | Path) -> Poses: ...
    @overload
    def __call__(self, image: object) -> Any: ...
    def __call__(self, image: object) -> Poses | list[Poses]:
        """Find everyone in an image, or in each image of a list.

        Args:
            image: uint8[H, W, 3] in BGR order (grayscale and a fourth channel are accepted), the path of an image file,
                a PIL image, or a list of these.

        Returns:
            One `Poses`, or a list of them in the order of the images; people in pixels of their image.

        Raises:
            SourceError: If something is not an image of 8 bits a channel.
            ModelError: If the engine failed.
        """
        if isinstance(image, list | tuple):
            return list(self.map(image))
        return self.timed(image)[0]

    def map(self, images: Iterable[object], *, in_flight: int | None = None) -> Iterator[Poses]:
        """Find everyone in many images: while one is in the network the next is resized and the last one decoded.

        Args:
            images: What `__call__` takes; read lazily, so that an endless source is fine.
            in_flight: Images in flight at once; enough to keep the engine busy unless given.

        Yields:
            One `Poses` an image, in order.

        Raises:
            OptionError: If ``in_flight`` is not positive.
            SourceError: As `__call__` does; the message names the position of the image.
            ModelError: If the engine failed.

        Example:
            >>> blank = np.full((240, 320, 3), 128, np.uint8)
            >>> with PoseEstimator(height=128) as estimator:
            ...     [len(poses) for poses in estimator.map([blank, blank[:200]])]
            [0, 0]
        """
        limit = _IN_FLIGHT if in_flight is None else in_flight
        if limit < 1:
            raise OptionError(f"{in_flight} images in flight", expected="a positive number")
        # Whoever reads into one buffer may change it before the refiner looks at it; the images of a list stay.
        copies = self._refiner is not None and not isinstance(images, list | tuple)
        running: deque[PendingPoses] = deque()
        for index, image in enumerate(images):
            try:
                kept = image.copy() if copies and isinstance(image, np.ndarray) else image
                running.append(self.submit(kept))
            except SourceError as error:
                raise SourceError(f"image {index}: {error.given}", expected=error.expected, hint=error.hint) from None
            if len(running) >= limit:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()

    def timed(self, image: object) -> tuple[Poses, StageTimes]:
        """Find everyone in one image, and return the times by stage."""
        started = perf_counter()
        loaded = _load(image)
        views = make_views(loaded, self._backend.spec, self._view_options)
        prepared = perf_counter()
        answers = [self._backend.infer(view.network_input) for view in views]
        inferred = perf_counter()
        poses, decode_ms, refine_ms = self._people(loaded, views, answers)
        return poses, StageTimes(1e3 * (prepared - started), 1e3 * (inferred - prepared), decode_ms, refine_ms)

    def submit(self, image: object) -> PendingPoses:
        """Start an image and return while its network runs; blocks only while all requests are busy.

        The image is resized here, in the calling thread. With refinement it is looked at again for the result and must
        not be changed until then.

        Raises:
            SourceError: If it is not an image of 8 bits a channel.
        """
        started = perf_counter()
        loaded = _load(image)
        views = make_views(loaded, self._backend.spec, self._view_options)
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
            answers = [inference.result() for inference in pending]
            poses, decode_ms, refine_ms = self._people(loaded, views, answers)
            return poses, StageTimes(1e3 * (prepared - started), 1e3 * (inferred - prepared), decode_ms, refine_ms)

        return PendingPoses(wait, finish)

    def _people(
        self, image: UInt8[np.ndarray, "H W 3"], views: Sequence[View], answers: Sequence[list[Arrays]]
    ) -> tuple[Poses, float, float]:
        """Decode all views together and refine the people; return milliseconds of decoding and refinement as well."""
        began = perf_counter()
        poses = decode_views(
            views, answers, self.spec.outputs, self._decoder, self._view_options.tiles, self._candidates
        )
        decoded = perf_counter()
        if self._refiner is None:
            return poses, 1e3 * (decoded - began), 0.0
        poses = self._refiner(image, poses, scale=views[0].letterbox.scale[1])
        return poses, 1e3 * (decoded - began), 1e3 * (perf_counter() - decoded)

    def close(self) -> None:
        """Release the engine; the estimator cannot be used afterwards."""
        self._backend.close()
        if self._refiner is not None:
            self._refiner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _done() -> None:
    """Wait for nothing."""


def _load(image: object) -> UInt8[np.ndarray, "H W 3"]:
    """Convert an image in any supported form to uint8[H, W, 3] in BGR order."""
    if isinstance(image, str | Path):
        return read_image(image)
    return as_bgr(image)
