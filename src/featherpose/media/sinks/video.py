"""Video files from images: chooses the writer for a file.

With PyAV (the ``video`` extra) H.264 with the source's sound; else VP9 in MP4 and VP8 in WebM and Matroska, which
browsers play. Every file grows under a visible temporary name, is readable after every frame, and gets its own name
when it is complete; closing a sink after Ctrl-C completes it with the frames it has.
"""

from __future__ import annotations

import contextlib
from importlib.util import find_spec
from pathlib import Path

from featherpose.files import keep_interrupted, unfinished_parts
from featherpose.media.sinks import packet_sink
from featherpose.media.sinks.opencv_sink import OpenCVSink
from featherpose.media.sinks.packet_sink import PacketSink
from featherpose.media.sinks.sink import VIDEO_OUTPUT_SUFFIXES, VideoSink, earlier_files
from featherpose.media.sinks.vpx import vpx_is_available

__all__ = ["VIDEO_OUTPUT_SUFFIXES", "VideoSink", "frames_written", "open_video_sink", "recover_videos"]


def open_video_sink(
    path: str | Path, fps: float, *, audio_from: Path | None = None, resume_at_s: float | None = None
) -> VideoSink:
    """Start a video file.

    Args:
        path: ``.mp4``, ``.webm``, ``.mkv``, ``.mov`` or ``.avi`` (Motion JPEG).
        fps: Nominal frames per second; every frame keeps its own time, but in AVI, where frames are repeated.
        audio_from: A video whose sound is copied, where PyAV is installed.
        resume_at_s: Continue what an earlier run left of the video; time of the source's first frame in seconds.

    Raises:
        OutputError: If such a file cannot be written there.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with open_video_sink(Path(folder) / "gray.mp4", fps=25) as sink:
        ...         for i in range(5):
        ...             sink.write(np.full((48, 64, 3), 90, np.uint8), i / 25)
        ...     (Path(folder) / "gray.mp4").exists(), sink.frames
        (True, 5)
    """
    path = Path(path)
    if _takes_h264(path):
        from featherpose.media.sinks.h264 import H264Sink

        return H264Sink(path, fps, audio_from=audio_from, resume_at_s=resume_at_s)
    if vpx_is_available() or path.suffix.lower() == ".avi":
        return PacketSink(path, fps, resume_at_s=resume_at_s)
    return OpenCVSink(path, fps)


def frames_written(path: Path) -> int:
    """Return how many frames an earlier run left of a video, finished or not.

    A file that can only be made anew counts as 0.
    """
    read = packet_sink.earlier_frames
    if _takes_h264(path):
        from featherpose.media.sinks.h264 import earlier_frames as read
    return max((len(read(part)) for part in earlier_files(path)), default=0)


def _takes_h264(path: Path) -> bool:
    """Return True if PyAV, which is imported only where it is used, is installed and writes such files."""
    return find_spec("av") is not None and path.suffix.lower() not in (".avi", ".webm")


def recover_videos(path: Path) -> list[Path]:
    """Give what killed runs left of a video lasting names.

    Returns:
        The files, for the message to the user.
    """
    found = []
    for part in unfinished_parts(path):
        with contextlib.suppress(OSError):
            if part.stat().st_size < 1024:  # no frame
                part.unlink()
            else:
                found.append(keep_interrupted(part, path))
    return found
