"""Render a puppet or a generator for all frames of a movement, and write the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.errors import MissingExtraError, OutputError, SourceError
from featherpose.files import make_folder, replacing, write_bytes
from featherpose.media.sinks.video import VIDEO_OUTPUT_SUFFIXES, open_video_sink
from featherpose.motion.sequence import PoseSequence
from featherpose.transfer.mark import draw_mark
from featherpose.transfer.puppet import Puppet, joints_of
from featherpose.transfer.retargeting import Body, retarget

__all__ = ["puppet_frames", "retarget_people", "write_frames", "write_transparent"]


def retarget_people(sequence: PoseSequence, body: Body, people: int) -> list[PoseSequence]:
    """Retarget the ``people`` most often seen, each beside the other as far as they are in the source.

    Raises:
        SourceError: If none of them shows shoulders and hips.
    """
    seen = sequence.found.any(-1).sum(0)
    order = np.argsort(-seen, kind="stable")[:people].tolist()
    moved: list[PoseSequence] = []
    first: Body | None = None
    for person in order:
        try:
            own = Body.of(sequence.select([person]))
            one = retarget(sequence, body, person=person)
        except SourceError:
            continue
        if first is None:
            first = own
        else:
            aside = (own.root[0] - first.root[0]) * body.height_px / first.height_px
            one = one.changed(one.keypoints + np.array([aside, 0.0]), one.steps[-1])
        moved.append(one)
    if not moved:
        raise SourceError("nobody in the source shows shoulders and hips", hint="choose another source")
    return moved


def puppet_frames(puppet: Puppet, movements: list[PoseSequence]) -> Iterator[UInt8[np.ndarray, "H W 4"] | None]:
    """Draw every frame of one or several movements of one puppet.

    Where a movement has no trunk the puppet keeps its last pose, and before the first one it has that already.

    Yields:
        uint8[H, W, 4], BGRA with colors multiplied by alpha; None if there is no pose at all.
    """
    held = [_first_pose(movement) for movement in movements]
    for t in range(movements[0].num_frames):
        canvas: UInt8[np.ndarray, "H W 4"] | None = None
        for i, movement in enumerate(movements):
            pose = joints_of(movement.keypoints[t, 0], movement.skeleton)
            if "neck" in pose and "mid_hip" in pose:
                held[i] = pose
            last = held[i]
            if last is None:
                continue
            drawn = puppet.render_alpha(last)
            canvas = drawn if canvas is None else _stacked(canvas, drawn)
        yield canvas


def _first_pose(movement: PoseSequence) -> dict[str, np.ndarray] | None:
    for points in movement.keypoints[:, 0]:
        pose = joints_of(points, movement.skeleton)
        if "neck" in pose and "mid_hip" in pose:
            return pose
    return None


def _stacked(below: UInt8[np.ndarray, "H W 4"], above: UInt8[np.ndarray, "H W 4"]) -> UInt8[np.ndarray, "H W 4"]:
    rest = 255 - above[..., 3:].astype(np.uint16)
    return np.asarray(above + ((below * rest + 127) // 255).astype(np.uint8))


def write_frames(
    path: Path, frames: Iterator[UInt8[np.ndarray, "H W 4"] | None], background: UInt8[np.ndarray, "H W 3"],
    sequence: PoseSequence, *, audio_from: Path | None = None, mark: bool = True,
    progress: Callable[[int], None] = lambda _: None,
) -> str:  # fmt: skip
    """Write frames over a background as a video with the source's times and sound.

    Returns:
        A description of what was written.

    Raises:
        OutputError: If the video cannot be written.
    """
    rate = sequence.rate_hz
    with open_video_sink(path, rate if rate == rate else 25.0, audio_from=audio_from) as sink:
        for t, drawn in enumerate(frames):
            image = background.copy()
            if drawn is not None:
                rest = 255 - drawn[..., 3:].astype(np.uint16)
                image = np.asarray(drawn[..., :3] + ((image * rest + 127) // 255).astype(np.uint8))
            if mark:
                draw_mark(image)
            sink.write(image, float(sequence.timestamps_s[t]))
            progress(t + 1)
        description = sink.description
    return f"{path} ({description})"


def write_transparent(
    path: Path, frames: Iterator[UInt8[np.ndarray, "H W 4"] | None], size: tuple[int, int], sequence: PoseSequence, *,
    mark: bool = True,
) -> str:  # fmt: skip
    """Write frames with transparency: a folder of PNG files, or a WebM (VP9) with the ``video`` extra.

    Args:
        path: A folder, or a name that ends in ``.webm``.
        frames: uint8[H, W, 4], BGRA with colors multiplied by alpha.
        size: (width, height) of the frames.
        sequence: The movement, for its times.
        mark: Whether the visible mark is drawn.

    Raises:
        OutputError: If it cannot be written.
        MissingExtraError: For WebM without PyAV.
    """
    images = (_plain_colors(frame, size, mark) for frame in frames)
    if path.suffix.lower() == ".webm":
        return _write_webm(path, images, size, sequence)
    if path.suffix.lower() in VIDEO_OUTPUT_SUFFIXES:
        raise OutputError(f"{path} holds no transparency", expected="a name with .webm, or a folder for PNG files")
    make_folder(path)
    count = 0
    for count, image in enumerate(images, 1):
        whole, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 3])
        if not whole:
            raise OutputError(f"{path} cannot be written")
        write_bytes(path / f"{count - 1:06d}.png", data.tobytes(), make=False)
    return f"{count:,} PNG files in {path}"


def _plain_colors(
    frame: UInt8[np.ndarray, "H W 4"] | None, size: tuple[int, int], mark: bool
) -> UInt8[np.ndarray, "H W 4"]:
    """Colors not multiplied by alpha, as files hold them."""
    out = np.zeros((size[1], size[0], 4), np.uint8)
    if frame is not None:
        alpha = np.maximum(frame[..., 3:].astype(np.uint16), 1)
        out[..., :3] = np.minimum(frame[..., :3].astype(np.uint16) * 255 // alpha, 255)
        out[..., 3] = frame[..., 3]
    if mark:
        label = np.full((*out.shape[:2], 3), 30, np.uint8)
        before = label.copy()
        draw_mark(label)
        written = np.any(label != before, axis=-1)
        out[written, :3], out[written, 3] = label[written], 255
    return out


def _write_webm(
    path: Path, images: Iterator[UInt8[np.ndarray, "H W 4"]], size: tuple[int, int], sequence: PoseSequence
) -> str:
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("Transparent WebM", "video") from error
    from fractions import Fraction

    rate = sequence.rate_hz
    if "libvpx-vp9" not in av.codecs_available:
        raise OutputError(f"{path} cannot be written: this PyAV has no VP9 encoder", hint="name a folder for PNG files")
    make_folder(path.parent)
    with replacing(path) as part, av.open(str(part), "w", format="webm") as container:
        stream = container.add_stream(
            "libvpx-vp9", rate=Fraction(rate if rate == rate else 25.0).limit_denominator(1001),
            options={"auto-alt-ref": "0", "crf": "24", "b:v": "0", "deadline": "realtime", "cpu-used": "6"},
        )  # fmt: skip
        stream.width, stream.height, stream.pix_fmt = size[0] // 2 * 2, size[1] // 2 * 2, "yuva420p"
        count = 0
        for image in images:
            count += 1
            even = np.ascontiguousarray(image[: stream.height, : stream.width, [2, 1, 0, 3]])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgba")))
        container.mux(stream.encode())
    return f"{path} (VP9 with transparency, {count:,} frames)"
