"""A folder, a list or a single image as a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from featherpose.errors import SourceError
from featherpose.media.images import MAX_PIXELS, read_image
from featherpose.media.sources.source import Frame, Source, Span

__all__ = ["ImageFilesSource"]


class ImageFilesSource(Source):
    """Images in the given order, each read when it is its turn.

    An image that cannot be read is left out and noted in ``errors`` while the rest goes on; a single image, or
    any when strict, raises instead.

    Args:
        paths: The files.
        name: Name for people.
        span: Only ``frame_step`` applies to images.
        strict: Raise at the first image that cannot be read.
        max_pixels: Limit for one image.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        name: str,
        *,
        span: Span,
        strict: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(name, "image", strict=strict)
        self.paths = tuple(paths)[:: span.frame_step]
        self.path = self.paths[0] if len(self.paths) == 1 else None
        self.frame_count = len(self.paths)
        self._frame_step = span.frame_step
        self._max_pixels = max_pixels

    def __iter__(self) -> Iterator[Frame]:
        alone = len(self.paths) == 1
        for i, path in enumerate(self.paths):
            try:
                image = read_image(path, max_pixels=self._max_pixels)
            except SourceError as error:
                if alone:
                    raise
                error.path = path
                self._report(error)
                continue
            yield Frame(image, i * self._frame_step, 0.0, path.name, path)
