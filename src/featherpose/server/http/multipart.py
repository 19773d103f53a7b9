"""Uploads from forms: the files of a ``multipart/form-data`` body that is in memory already."""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from featherpose.server.http.errors import HTTPError

__all__ = ["read_files"]

_MAX_PARTS = 100
_MAX_HEADER_BYTES = 8192


@dataclass(slots=True)
class _Part:
    name: bytes = b""
    is_file: bool = False
    data: bytearray = field(default_factory=bytearray)


class _Reader:
    """Collector of the parts named ``file`` from the parser's callbacks."""

    def __init__(self, max_files: int) -> None:
        self.files: list[bytes] = []
        self._max_files = max_files
        self._parts = 0
        self._part = _Part()
        self._field, self._value = bytearray(), bytearray()

    def on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise HTTPError(413, "the form has too many parts", expected=f"at most {_MAX_PARTS}")
        self._part = _Part()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._grow(self._field, data[start:end])

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._grow(self._value, data[start:end])

    @staticmethod
    def _grow(buffer: bytearray, piece: bytes) -> None:
        buffer += piece
        if len(buffer) > _MAX_HEADER_BYTES:
            raise HTTPError(400, "the form has a part with very long headers")

    def on_header_end(self) -> None:
        if bytes(self._field).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._part.name = options.get(b"name", b"")
        self._field.clear()
        self._value.clear()

    def on_headers_finished(self) -> None:
        self._part.is_file = self._part.name == b"file"
        if self._part.is_file and len(self.files) >= self._max_files:
            raise HTTPError(413, "the form has too many files", expected=f"at most {self._max_files}")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self._part.data += memoryview(data)[start:end]

    def on_part_end(self) -> None:
        if self._part.is_file:
            self.files.append(bytes(self._part.data))
            self._part = _Part()


def read_files(body: bytes, content_type: str, *, max_files: int) -> list[bytes]:
    r"""Return the contents of all parts named ``file``.

    Args:
        body: The whole body.
        content_type: The request's header, which names the boundary.
        max_files: Refuse forms with more.

    Raises:
        HTTPError: 400 if it is no such form or has no such part, 413 if it has too many.

    Example:
        >>> form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc\r\n--x--\r\n'
        >>> read_files(form, "multipart/form-data; boundary=x", max_files=1)
        [b'abc']
    """
    _, options = parse_options_header(content_type.encode("latin-1", "replace"))
    boundary = options.get(b"boundary", b"")
    if not boundary or len(boundary) > 256:
        raise HTTPError(400, "the form names no boundary", expected="Content-Type: multipart/form-data; boundary=…")
    reader = _Reader(max_files)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": reader.on_part_begin,
                "on_header_field": reader.on_header_field,
                "on_header_value": reader.on_header_value,
                "on_header_end": reader.on_header_end,
                "on_headers_finished": reader.on_headers_finished,
                "on_part_data": reader.on_part_data,
                "on_part_end": reader.on_part_end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise HTTPError(400, f"the form is damaged ({' '.join(str(error).split())[:200]})") from error
    if not reader.files:
        raise HTTPError(400, "the form has no part named 'file'", expected="an image in the field 'file'")
    return reader.files
