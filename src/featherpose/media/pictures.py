"""A folder, a list or a single picture as a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from featherpose.errors import SourceError
from featherpose.media.frames import Frame, Source, Span
from featherpose.media.images import MAX_PIXELS, read_image

__all__ = ["PicturesSource"]


class PicturesSource(Source):
    """Pictures in the order given, each read when it is its turn.

    A picture that cannot be read is left out and noted in ``problems`` while the rest goes on; a single picture, or
    any when strict, raises instead.

    Args:
        paths: The files.
        name: Name for people.
        span: Only ``every`` matters to pictures.
        strict: Raise at the first picture that cannot be read.
        max_pixels: Limit for one picture.
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
        self.paths = tuple(paths)[:: span.every]
        self.path = self.paths[0] if len(self.paths) == 1 else None
        self.frame_count = len(self.paths)
        self._every = span.every
        self._max_pixels = max_pixels

    def __iter__(self) -> Iterator[Frame]:
        alone = len(self.paths) == 1
        for i, path in enumerate(self.paths):
            try:
                image = read_image(path, max_pixels=self._max_pixels)
            except SourceError as error:
                if alone:
                    raise
                self._report(error)
                continue
            yield Frame(image, i * self._every, 0.0, path.name, path)
