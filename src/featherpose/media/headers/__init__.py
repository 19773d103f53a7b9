"""Facts of an image file before it is decoded: format, size, memory, and whether its end is present.

Decoders allocate before they check: a file of 400 KB can declare 20,000 x 20,000 pixels, and a truncated JPEG may
decode half gray without an error. Reading the header answers both questions at almost no cost. Each parser reads the
bytes as its decoder does (libjpeg, libpng, libtiff, libwebp, libavif, OpenJPEG): where the two disagree, a file can
declare one size to the parser and another to the decoder.
"""

from featherpose.media.headers.gif import gif_frame_count
from featherpose.media.headers.header import CUT_OFF, ImageHeader
from featherpose.media.headers.recognize import is_heif, read_header

__all__ = ["CUT_OFF", "ImageHeader", "gif_frame_count", "is_heif", "read_header"]
