"""VP8 and VP9 by the FFmpeg that OpenCV's wheels carry, called directly.

``cv2.VideoWriter`` reaches the same encoders, but cannot set their speed: libvpx then takes 72 ms (VP8) and 650 ms
(VP9) of a core for a frame of 1280x720, instead of 7 and 14 (``benchmarks/video_writing.py``). The few fields of
FFmpeg's structures that are needed here have had the same places since FFmpeg 5; what is found there is checked before
anything is written.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_uint8, c_void_p
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.errors import OutputError
from featherpose.media.sinks.packets import Packet

__all__ = ["VpxCodec", "VpxEncoder", "vpx_is_available"]

_log = logging.getLogger(__name__)

VpxCodec = Literal["VP8", "VP9"]

_NAMES: dict[str, bytes] = {"VP8": b"libvpx", "VP9": b"libvpx-vp9"}
_VERSIONS = range(59, 64)  # of libavcodec: FFmpeg 5 to 8
_NO_TIME = -(2**63)
_YUV420P = 0
_SEARCH_CHILDREN = 1
_KEYFRAME = 1
_QUIET = -8
_BITS_A_PIXEL = 0.15
_LEAST_BITS = 2_000_000  # a second
# Byte offsets in AVFrame and AVPacket.
_LINESIZE, _WIDTH, _HEIGHT, _FORMAT = 64, 104, 108, 116
_DATA, _SIZE, _FLAGS = 24, 32, 40


class _Libraries:
    """libavcodec and libavutil with the signatures of the functions in use."""

    def __init__(self, folder: Path) -> None:
        self.util = ctypes.CDLL(str(next(folder.glob("libavutil*"))))
        self.codec = ctypes.CDLL(str(next(folder.glob("libavcodec*"))))
        for library, name, result, arguments in (
            (self.util, "av_frame_alloc", c_void_p, []),
            (self.util, "av_frame_free", None, [POINTER(c_void_p)]),
            (self.util, "av_frame_get_buffer", c_int, [c_void_p, c_int]),
            (self.util, "av_frame_make_writable", c_int, [c_void_p]),
            (self.util, "av_opt_set", c_int, [c_void_p, c_char_p, c_char_p, c_int]),
            (self.util, "av_log_get_level", c_int, []),
            (self.util, "av_log_set_level", None, [c_int]),
            (self.codec, "avcodec_version", ctypes.c_uint, []),
            (self.codec, "avcodec_find_encoder_by_name", c_void_p, [c_char_p]),
            (self.codec, "avcodec_alloc_context3", c_void_p, [c_void_p]),
            (self.codec, "avcodec_free_context", None, [POINTER(c_void_p)]),
            (self.codec, "avcodec_open2", c_int, [c_void_p, c_void_p, c_void_p]),
            (self.codec, "avcodec_send_frame", c_int, [c_void_p, c_void_p]),
            (self.codec, "avcodec_receive_packet", c_int, [c_void_p, c_void_p]),
            (self.codec, "av_packet_alloc", c_void_p, []),
            (self.codec, "av_packet_free", None, [POINTER(c_void_p)]),
            (self.codec, "av_packet_unref", None, [c_void_p]),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments


@functools.cache
def _libraries() -> _Libraries | None:
    """Return the libraries of OpenCV's wheel, or None where it was built otherwise."""
    package = Path(cv2.__file__).parent
    folders = [*package.parent.glob("opencv_*.libs"), package / ".dylibs"]
    for folder in folders:
        try:
            libraries = _Libraries(folder)
        except (OSError, StopIteration, AttributeError):
            continue
        if libraries.codec.avcodec_version() >> 16 not in _VERSIONS:
            continue
        if all(libraries.codec.avcodec_find_encoder_by_name(name) for name in _NAMES.values()):
            return libraries
    return None


def vpx_is_available() -> bool:
    """Return True if `VpxEncoder` works here."""
    return _libraries() is not None


class VpxEncoder:
    """One frame in, one packet out, at the speed of real-time video.

    Args:
        codec: VP8 or VP9.
        size: (width, height) in pixels, both even.
        fps: Nominal rate, by which the number of bits is chosen.

    Raises:
        OutputError: If there is no such encoder here.
    """

    def __init__(self, codec: VpxCodec, size: tuple[int, int], fps: float) -> None:
        libraries = _libraries()
        if libraries is None:
            raise OutputError(f"this OpenCV has no {codec} encoder that can be called directly")
        self._libraries = libraries
        self._width, self._height = size
        self._frame, self._packet, self._context = c_void_p(), c_void_p(), c_void_p()
        encoder = libraries.codec.avcodec_find_encoder_by_name(_NAMES[codec])
        self._context = c_void_p(libraries.codec.avcodec_alloc_context3(encoder))
        options = {
            "video_size": f"{size[0]}x{size[1]}", "pixel_format": "yuv420p", "time_base": "1/1000",
            "b": str(round(max(_LEAST_BITS, size[0] * size[1] * min(fps, 60.0) * _BITS_A_PIXEL))), "crf": "10",
            "g": str(max(2, round(2 * min(fps, 60.0)))), "deadline": "realtime",
            "cpu-used": "16" if codec == "VP8" else "8", "lag-in-frames": "0", "threads": "1",
            "colorspace": "smpte170m", "color_range": "tv",
        }  # fmt: skip
        level = libraries.util.av_log_get_level()
        libraries.util.av_log_set_level(_QUIET)  # libvpx tells its version
        try:
            for name, value in options.items():
                if libraries.util.av_opt_set(self._context, name.encode(), value.encode(), _SEARCH_CHILDREN) < 0:
                    _log.debug("the %s encoder has no option %s", codec, name)
            failed = libraries.codec.avcodec_open2(self._context, encoder, None)
        finally:
            libraries.util.av_log_set_level(level)
        if failed < 0:
            self.close()
            raise OutputError(f"the {codec} encoder cannot be opened for {size[0]}x{size[1]} pixels")
        self._packet = c_void_p(libraries.codec.av_packet_alloc())
        self._frame = c_void_p(libraries.util.av_frame_alloc())
        self._planes = self._lay_out()

    def _lay_out(self) -> list[UInt8[np.ndarray, "h w"]]:
        """Give the frame its memory and return its three planes."""
        at = self._frame.value or 0
        times = (c_int64 * 40).from_address(at)
        first = next((i for i in range(15, 24) if times[i] == _NO_TIME), None)
        if first is None or c_int.from_address(at + _FORMAT).value != -1 or c_int.from_address(at + _WIDTH).value != 0:
            self.close()
            raise OutputError("OpenCV's FFmpeg lays out its frames in an unknown way")
        self._time = c_int64.from_address(at + 8 * first)
        c_int.from_address(at + _WIDTH).value = self._width
        c_int.from_address(at + _HEIGHT).value = self._height
        c_int.from_address(at + _FORMAT).value = _YUV420P
        if self._libraries.util.av_frame_get_buffer(self._frame, 0) < 0:
            raise MemoryError
        return self._find_planes()

    def _find_planes(self) -> list[UInt8[np.ndarray, "h w"]]:
        at = self._frame.value or 0
        planes = []
        for number, (width, height) in enumerate(
            ((self._width, self._height), *[(self._width // 2, self._height // 2)] * 2)
        ):
            address = c_void_p.from_address(at + 8 * number).value
            stride = c_int.from_address(at + _LINESIZE + 4 * number).value
            if not address or stride < width:
                raise OutputError("OpenCV's FFmpeg lays out its frames in an unknown way")
            whole = (c_uint8 * (stride * height)).from_address(address)
            planes.append(np.ctypeslib.as_array(whole).reshape(height, stride)[:, :width])
        return planes

    def encode(self, image: UInt8[np.ndarray, "H W 3"], time_s: float) -> Packet:
        """Compress a frame.

        Args:
            image: uint8[H, W, 3], BGR, of the size that was given.
            time_s: When it is shown; later than the one before by a millisecond or more.

        Raises:
            OutputError: If the encoder fails.
        """
        codec, width, height = self._libraries.codec, self._width, self._height
        yuv = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
        before = c_void_p.from_address(self._frame.value or 0).value
        self._libraries.util.av_frame_make_writable(self._frame)
        if c_void_p.from_address(self._frame.value or 0).value != before:
            self._planes = self._find_planes()  # the encoder kept the last ones
        quarter = width * height // 4
        flat = yuv.reshape(-1)
        luma = width * height
        self._planes[0][...] = flat[:luma].reshape(height, width)
        self._planes[1][...] = flat[luma : luma + quarter].reshape(height // 2, width // 2)
        self._planes[2][...] = flat[luma + quarter : luma + 2 * quarter].reshape(height // 2, width // 2)
        self._time.value = round(time_s * 1000)
        if codec.avcodec_send_frame(self._context, self._frame) < 0:
            raise OutputError("the video encoder refused a frame")
        if codec.avcodec_receive_packet(self._context, self._packet) < 0:
            raise OutputError("the video encoder gave no packet for a frame")
        at = self._packet.value or 0
        size = c_int.from_address(at + _SIZE).value
        data = ctypes.string_at(c_void_p.from_address(at + _DATA).value or 0, size)
        keyframe = bool(c_int.from_address(at + _FLAGS).value & _KEYFRAME)
        codec.av_packet_unref(self._packet)
        return Packet(data, time_s, keyframe)

    def close(self) -> None:
        """Release the encoder; may be called twice."""
        self._planes = []
        if self._frame:
            self._libraries.util.av_frame_free(byref(self._frame))
        if self._packet:
            self._libraries.codec.av_packet_free(byref(self._packet))
        if self._context:
            self._libraries.codec.avcodec_free_context(byref(self._context))
