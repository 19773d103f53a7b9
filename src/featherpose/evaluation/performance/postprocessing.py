"""Time of post-processing by step: resize, extract, group, in the slides' way and ours.

All methods decode the same maps: those of a trained network on real photographs, composed to a chosen number of people.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

from featherpose.errors import OptionError
from featherpose.evaluation.performance.mosaics import find_cutouts, fit_crowd
from featherpose.evaluation.performance.timing import Timing
from featherpose.evaluation.reference.paf import extract_keypoints, group_keypoints, resize_by, resize_to_image
from featherpose.geometry import Letterbox
from featherpose.methods.paf.decode_options import PafOptions
from featherpose.methods.paf.decoder import PafDecoder
from featherpose.methods.paf.maps import Maps
from featherpose.methods.paf.method import maps_of
from featherpose.preprocess import prepare
from featherpose.runtime.backend import Backend
from featherpose.skeleton import Skeleton

__all__ = ["METHODS", "PUBLISHED_FPS", "CrowdMaps", "StageProfile", "crowd_maps", "profile_decoding"]

METHODS = ("resize to image", "resize x4", "ours, published rules", "ours")
"""The slides' baseline; the proposed system's resize; no resize with the papers' rules and with the default rules."""

PUBLISHED_FPS = MappingProxyType({"resize": 10.5, "extract": 1.81, "group": 454.0, "total": 1.54})
"""The slides' profile of their baseline: more than 20 people, 456x256, Intel Core i7-6850K, 6 cores."""

_RATIO = 4
_SLOW_SECONDS = 15.0  # a slow method is not run again once it has taken this long on one image


@dataclass(frozen=True, slots=True, eq=False)
class CrowdMaps:
    """A network's output on a crowd.

    Attributes:
        wanted: People asked for.
        people: People found by the default rules.
        maps: The maps to decode.
        letterbox: How the image became the network input.
    """

    wanted: int
    people: int
    maps: Maps
    letterbox: Letterbox


@dataclass(frozen=True, slots=True)
class StageProfile:
    """One method on one crowd.

    Attributes:
        method: One of `METHODS`.
        people: People found by the default rules, the same for all methods.
        found: People found by this method.
        resize: Maps to the size in which peaks are searched; None where nothing is resized.
        extract: Heatmaps to candidate keypoints.
        group: Candidates to people in source pixels.
        total: All of them.
    """

    method: str
    people: int
    found: int
    resize: Timing | None
    extract: Timing
    group: Timing
    total: Timing

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for a JSON file."""
        stages = {"resize": self.resize, "extract": self.extract, "group": self.group, "total": self.total}
        return {
            "method": self.method,
            "people": self.people,
            "found": self.found,
            **{name: None if timing is None else timing.as_dict() for name, timing in stages.items()},
        }


def crowd_maps(
    backend: Backend, folder: Path, people: Sequence[int], *, height: int, size: tuple[int, int] = (1280, 720)
) -> list[CrowdMaps]:
    """Return a network's maps of composed crowds.

    Args:
        backend: A trained network.
        folder: COCO keypoint data set that the people are cut out of.
        people: Sizes of the crowds.
        height: Network input height in pixels.
        size: (width, height) of the composed images in pixels.

    Raises:
        DatasetError: If the folder is no COCO data set, or no person in it stands alone.
        OptionError: If a crowd is empty.
    """
    if not people or min(people) < 1:
        raise OptionError(f"crowds of {', '.join(map(str, people)) or 'nobody'}", expected="at least one person each")
    cutouts = find_cutouts(folder)
    spec = backend.spec
    decode = PafDecoder(spec.skeleton, spec.options)
    crowds = []
    for wanted in people:
        latest: dict[int, tuple[Maps, Letterbox]] = {}

        def count(image: Any, latest: dict[int, tuple[Maps, Letterbox]] = latest) -> int:
            network_input, box = prepare(
                image, height=height, size_multiple=spec.size_multiple, pad_value=spec.pad_value
            )
            maps = maps_of(backend.infer(network_input)[0], spec.outputs)
            found = len(decode(maps, box))
            latest[found] = maps, box
            return found

        _, found = fit_crowd(cutouts, wanted, count, size)
        crowds.append(CrowdMaps(wanted, found, *latest[found]))
    return crowds


def profile_decoding(
    crowd: CrowdMaps, skeleton: Skeleton, *, rules: PafOptions | None = None, repeats: int = 20
) -> list[StageProfile]:
    """Time every method on one crowd, in turns.

    Args:
        crowd: The maps to decode.
        skeleton: Keypoints and limbs of the maps.
        rules: Our decoding rules, those of the network's card; the default ones if left out.
        repeats: Runs of each method; the slow ones end after three runs, or after 15 seconds.

    Raises:
        OptionError: If there is not at least one repeat.
    """
    if repeats < 1:
        raise OptionError(f"{repeats} repeats", expected="at least one")
    published, better = PafDecoder(skeleton, PafOptions.published()), PafDecoder(skeleton, rules)
    methods: list[tuple[str, Callable[[], tuple[int, list[float]]], int]] = [
        (METHODS[0], lambda: _run_plain(crowd, skeleton, None), min(repeats, 3)),
        (METHODS[1], lambda: _run_plain(crowd, skeleton, _RATIO), min(repeats, 3)),
        (METHODS[2], lambda: _run_ours(crowd, published), repeats),
        (METHODS[3], lambda: _run_ours(crowd, better), repeats),
    ]
    for _, run, _ in methods[2:]:
        run()  # kernels and caches; the plain code has nothing to warm
    samples: list[list[list[float]]] = [[] for _ in methods]
    found = [0] * len(methods)
    spent = [0.0] * len(methods)
    for round_number in range(repeats):
        for i, (_, run, runs) in enumerate(methods):
            if round_number >= runs or spent[i] > 1e3 * _SLOW_SECONDS:
                continue
            found[i], stages = run()
            samples[i].append(stages)
            spent[i] += sum(stages)
    profiles = []
    for (method, _, _), runs_of, people in zip(methods, samples, found, strict=True):
        columns = list(zip(*runs_of, strict=True))
        resize = Timing.of(columns[0]) if method in METHODS[:2] else None
        total = Timing.of([sum(stages) for stages in runs_of])
        profiles.append(
            StageProfile(method, crowd.people, people, resize, Timing.of(columns[1]), Timing.of(columns[2]), total)
        )
    return profiles


def _run_plain(crowd: CrowdMaps, skeleton: Skeleton, ratio: int | None) -> tuple[int, list[float]]:
    """Return (people found, milliseconds of resize, extract, group)."""
    options = PafOptions.published()
    started = perf_counter()
    if ratio is None:
        resized = resize_to_image(crowd.maps, skeleton, crowd.letterbox)
    else:
        resized = resize_by(crowd.maps, skeleton, ratio)
    after_resize = perf_counter()
    candidates = extract_keypoints(resized, options)
    after_extract = perf_counter()
    people = group_keypoints(resized, candidates, skeleton, options)
    ended = perf_counter()
    return len(people), [
        1e3 * (after_resize - started), 1e3 * (after_extract - after_resize), 1e3 * (ended - after_extract)
    ]  # fmt: skip


def _run_ours(crowd: CrowdMaps, decoder: PafDecoder) -> tuple[int, list[float]]:
    """Do the same; grouping is the time of a whole call beyond its first stage, which is timed before."""
    started = perf_counter()
    decoder.peaks(crowd.maps)
    after_peaks = perf_counter()
    poses = decoder(crowd.maps, crowd.letterbox)
    ended = perf_counter()
    extract = after_peaks - started
    return len(poses), [0.0, 1e3 * extract, max(0.0, 1e3 * (ended - after_peaks - extract))]
