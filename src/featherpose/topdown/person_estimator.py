"""Boxes in, one pose a box out: crops through a single-person network, side by side, or a few at once on all cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from featherpose.crop_prior import draw_prior
from featherpose.crops import CropShape
from featherpose.errors import ModelError, OptionError
from featherpose.methods.method import Arrays
from featherpose.methods.mirror import mirror_outputs
from featherpose.poses import Poses
from featherpose.preprocess import cut_crops
from featherpose.runtime.backend import Backend, EngineOptions, ModelSpec
from featherpose.runtime.engines import open_backend
from featherpose.runtime.processor import available_cores
from featherpose.topdown.person_decoding import PersonDecoder
from featherpose.zoo.resolve import ResolvedModel, resolve_model

__all__ = ["PersonEstimator", "open_person_estimator"]


class PersonEstimator:
    """Estimates the pose of the person in each box. Any thread may call it, several at once.

    Args:
        backend: A network that sees one person at a time: ``backend.spec.crop`` is set.
        mirror: Whether each crop is seen mirrored as well and the outputs averaged: twice the time, somewhat better
            keypoints.

    Raises:
        ModelError: If the network sees whole images, or takes poses of another skeleton than its own.

    Example:
        >>> boxes = np.array([[10, 10, 90, 200]], np.float32)
        >>> with open_person_estimator("refiner") as estimator:
        ...     estimator(np.full((240, 320, 3), 128, np.uint8), boxes)
        Poses(1 people, coco_17, 320x240)
    """

    def __init__(self, backend: Backend, *, mirror: bool = False) -> None:
        self._decoder = PersonDecoder(backend.spec)
        self._crop = self._decoder.crop
        if self._crop.prior not in (0, backend.spec.skeleton.num_keypoints):
            raise ModelError(
                f"model {backend.spec.name} takes a pose of {self._crop.prior} keypoints",
                expected=f"{backend.spec.skeleton.num_keypoints}, those of its skeleton",
            )
        self._backend = backend
        self._mirror = mirror

    @property
    def spec(self) -> ModelSpec:
        """Return what the network is."""
        return self._backend.spec

    @property
    def crop(self) -> CropShape:
        """Return the crops that the network takes."""
        return self._crop

    def describe(self) -> dict[str, Any]:
        """Return the facts of a run: model, method, crop, engine, device, precision and threads."""
        info = self._backend.info
        return {
            "model": self.spec.name,
            "method": self.spec.method.name,
            "crop": [self._crop.width, self._crop.height],
            "precision": info.precision,
            "float_precision": info.float_precision,
            "engine": info.engine,
            "device": info.device,
            "threads": info.threads,
        }

    def warm_up(self) -> None:
        """Load and compile everything that the first call needs."""
        self._decoder.warm_up()
        if self._crop.prior:
            points = np.zeros((self._crop.prior, 2), np.float32)
            inputs = np.zeros((self._crop.rows, self._crop.width, 3), np.uint8)
            draw_prior(points, points[:, 0].copy(), np.eye(3)[:2], self._crop, inputs)

    def __call__(
        self, image: UInt8[np.ndarray, "H W 3"], boxes: Float32[np.ndarray, "P 4"], known: Poses | None = None
    ) -> Poses:
        """Estimate one pose a box.

        Args:
            image: uint8[H, W, 3], BGR.
            boxes: (left, top, right, bottom) in image pixels, finite.
            known: The P people as another network sees them, in any skeleton; a network whose crops have a ``prior``
                corrects these poses, others do not look at them.

        Returns:
            P people in the order of the boxes, with the skeleton of the network. Keypoints outside of the image or in a
            corner of the crop are missing. Where it found nothing all keypoints are missing and the score is 0.

        Raises:
            ModelError: If the engine failed.
            OptionError: If other people are known than there are boxes.
        """
        if known is not None and len(known) != len(boxes):
            raise OptionError(f"{len(known)} known people for {len(boxes)} boxes", expected="one for each box")
        matrices = self._crop.matrices(boxes)
        return self._decoder(self.outputs(image, matrices, known), matrices, (image.shape[1], image.shape[0]))

    def outputs(
        self, image: UInt8[np.ndarray, "H W 3"], matrices: Float64[np.ndarray, "P 2 3"], known: Poses | None = None
    ) -> Sequence[Arrays]:
        """Return the network's outputs for crops, the mean of both where crops are seen mirrored as well.

        Args:
            image: uint8[H, W, 3], BGR.
            matrices: From crop pixels to image pixels, of `featherpose.crops.CropShape.matrices`.
            known: The P people as another network sees them.

        Raises:
            ModelError: If the engine failed.
        """
        looks = np.concatenate([matrices, matrices @ self._turn()]) if self._mirror else matrices
        # In this thread: handing crops to another one costs up to a tenth of such a network's time.
        answers = self._backend.infer(self._inputs(image, looks, self._prior(known))) if len(looks) else []
        if not self._mirror:
            return answers
        count = len(matrices)
        return [self._average(a, b) for a, b in zip(answers[:count], answers[count:], strict=True)]

    def _prior(self, known: Poses | None) -> Poses | None:
        """Return the known people in the network's skeleton; those of the mirrored crops behind them."""
        if known is None or not self._crop.prior:
            return None
        same = known.to_skeleton(self.spec.skeleton)
        if not self._mirror:
            return same
        order = list(same.skeleton.flip_order)
        keypoints = np.concatenate([same.keypoints, same.keypoints[:, order]])
        scores = np.concatenate([same.keypoint_scores, same.keypoint_scores[:, order]])
        return Poses(keypoints, scores, np.tile(same.scores, 2), same.skeleton, same.image_size)

    def _inputs(
        self, image: UInt8[np.ndarray, "H W 3"], matrices: Float64[np.ndarray, "P 2 3"], prior: Poses | None
    ) -> UInt8[np.ndarray, "P rows w 3"]:
        """Cut crops, and draw what is known of the people under them."""
        inputs = cut_crops(image, matrices, self._crop)
        if prior is not None:
            for i, matrix in enumerate(matrices):
                draw_prior(prior.keypoints[i], prior.keypoint_scores[i], matrix, self._crop, inputs[i])
        return inputs

    def _turn(self) -> Float64[np.ndarray, "3 3"]:
        """Return the map from pixels of the mirrored crop to pixels of the crop under which their cells coincide.

        Cell c lies at pixel ``stride * c + origin``, so that the last cell need not be as far from the border as the
        first one, and a crop mirrored about its middle would have its cells beside those of the crop.
        """
        output = self.spec.outputs[0]
        if not output.stride:  # no map, and the crop's middle is its own
            return np.array([[-1, 0, self._crop.width - 1], [0, 1, 0], [0, 0, 1]])
        last = output.stride * (self._crop.width // output.stride - 1)
        return np.array([[-1, 0, last + 2 * output.first_cell_px], [0, 1, 0], [0, 0, 1]])

    def _average(self, answer: Arrays, mirrored: Arrays) -> Arrays:
        back = mirror_outputs(mirrored, self.spec.outputs)
        return {name: (array + back[name]) * np.float32(0.5) for name, array in answer.items()}

    def close(self) -> None:
        """Release the engine; the estimator cannot be used afterwards."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_person_estimator(
    model: str | ResolvedModel, engine: EngineOptions | None = None, *, mirror: bool = False
) -> PersonEstimator:
    """Open a single-person network: with one inference on each core, unless its card says that all cores share one.

    Args:
        model: A name of ``featherpose models list``, the path of a model file, or what `resolve_model` made of it.
        engine: How it runs; the number of streams is set here.
        mirror: Whether each crop is seen mirrored as well.

    Raises:
        ModelError: If the model cannot be found, read or run here, or sees whole images.
    """
    resolved = model if isinstance(model, ResolvedModel) else resolve_model(model)
    engine = engine or EngineOptions()
    streams = min(8, engine.threads or available_cores()) if resolved.spec.side_by_side else 0
    return PersonEstimator(
        open_backend(resolved.path, resolved.spec, replace(engine, num_streams=streams)), mirror=mirror
    )
