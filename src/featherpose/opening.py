"""The networks of an estimator, opened side by side: each takes about a second, most of it outside of Python."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from featherpose.methods.boxes.person_boxes import PERSON_BOX
from featherpose.runtime.backend import Backend, EngineOptions
from featherpose.runtime.engines import open_backend
from featherpose.skeleton import COCO_17, Skeleton
from featherpose.topdown.refinement import Refiner, open_refiner, refinable
from featherpose.topdown.topdown_options import RefineOptions

if TYPE_CHECKING:
    from featherpose.zoo.resolve import ResolvedModel

__all__ = ["open_networks"]


def open_networks(
    model: ResolvedModel,
    engine: EngineOptions,
    refine: RefineOptions,
    *,
    demanded: bool,
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[Backend, Refiner | None]:
    """Open a network for whole images and the refiner behind it.

    Args:
        model: The network for whole images.
        engine: How both run.
        refine: Which people are refined.
        demanded: Whether the user asked for refinement; a level does without it for skeletons that the refiner does not
            know.
        meanwhile: Called once the first network is open, while the refiner may still be opening.

    Returns:
        The network, and the refiner or None where nobody is to be refined.

    Raises:
        ModelError: If a network cannot be read or run here, or the refiner does not fit the skeleton; then none is
            left open.
        OptionError: If a budget in milliseconds is given and the refiner's card states no time of a crop.
    """
    with ThreadPoolExecutor(1, "open-refiner") as beside:
        opening = beside.submit(_open_refiner, refine, model.spec.skeleton, engine, demanded=demanded)
        backend: Backend | None = None
        try:
            backend = open_backend(model.path, model.spec, engine)
            meanwhile()
            return backend, opening.result()
        except BaseException:
            for network in (backend, None if opening.exception() else opening.result()):
                if network is not None:
                    network.close()
            raise


def _open_refiner(
    options: RefineOptions, skeleton: Skeleton, engine: EngineOptions, *, demanded: bool
) -> Refiner | None:
    """Open what the options ask for.

    A detector finds nobody's keypoints: behind it everyone is looked at, unless a budget is given.
    """
    if skeleton == PERSON_BOX:
        free = options.mode == "auto" and options.budget_crops is None and options.budget_ms is None
        return open_refiner(replace(options, mode="all") if free else options, skeleton, engine)
    if not demanded and not refinable(skeleton, COCO_17):
        return None
    return open_refiner(options, skeleton, engine)
