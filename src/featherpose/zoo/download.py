"""Download of one file over HTTP, complete and verified or not at all: resume, retries, hashes, size limit."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from featherpose import __version__
from featherpose.errors import DownloadError
from featherpose.files import make_folder, output_error
from featherpose.zoo.card import CardFile
from featherpose.zoo.checksums import file_hash, judge, recorded_path
from featherpose.zoo.file_kinds import check_kind

if TYPE_CHECKING:
    import requests

__all__ = ["DownloadOptions", "Progress", "download"]

_log = logging.getLogger(__name__)
_CHUNK_BYTES = 16 * 1024  # an unfinished chunk is lost when the connection breaks
_RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

Progress = Callable[[str, int, int | None], None]
"""Called with (file name, bytes here, bytes in all or None)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadOptions:
    """Options of a download.

    Attributes:
        retries: Failures in a row without a single new byte before giving up.
        timeout_s: Longest wait for a connection, and for the next byte.
        backoff_s: Wait before the first retry; it doubles with each further one, up to a minute.
        max_bytes: Refuse files whose size is not known beforehand and exceeds this.
    """

    retries: int = 5
    timeout_s: float = 30.0
    backoff_s: float = 0.5
    max_bytes: int = 2**31


class _InterruptedError(Exception):
    """Raised when the transfer broke and a retry may succeed."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def download(
    url: str,
    destination: Path,
    file: CardFile,
    *,
    options: DownloadOptions | None = None,
    progress: Progress | None = None,
) -> None:
    """Download a file.

    It grows as ``<name>.part`` beside its target and gets its name after size and hash are verified. An interrupted
    download is resumed if a published hash can verify the whole, else restarted. Without a published hash the file must
    be of the type of its name; its SHA-256 is then recorded beside it.

    Args:
        url: Address, http or https.
        destination: Path of the file.
        file: Its name, size and hashes.
        options: Timeouts and retries.
        progress: Called with every chunk.

    Raises:
        DownloadError: If the server refuses, does not answer, or sends other data than was published.
        OutputError: If the file cannot be written.
    """
    import requests  # a fifth of a second that only downloads should pay for

    options = options or DownloadOptions()
    make_folder(destination.parent)
    part = destination.with_name(f"{destination.name}.part")
    with _exclusive(part) as stream, requests.Session() as session:
        session.headers["User-Agent"] = f"featherpose/{__version__}"
        # Ranges count bytes of the file, so the server must not compress on the way.
        session.headers["Accept-Encoding"] = "identity"
        transfer = _Transfer(session, url, file, stream, options, progress)
        try:
            if not file.has_hash:
                stream.truncate(0)
            transfer.run()
            if not _is_right(part, file) and transfer.resumed:
                _log.warning("%s: the continued download does not match its hash; starting anew", file.name)
                stream.truncate(0)
                transfer.run()
            if not _is_right(part, file):
                stream.truncate(0)
                raise DownloadError(
                    f"what {url} sent is not the published file: its size or hash differs",
                    hint="nothing was kept; try again later or another --base-url",
                )
            if not file.has_hash:
                try:
                    check_kind(part, file.name)
                except DownloadError:
                    stream.truncate(0)
                    raise
                record = recorded_path(destination)
                record.write_text(f"{file_hash(part, 'sha256')}  {destination.name}\n", encoding="ascii")
            part.replace(destination)
        except OSError as error:
            raise output_error(destination, error) from error


def _is_right(part: Path, file: CardFile) -> bool:
    return part.stat().st_size > 0 and judge(part, file) != "damaged"


@contextlib.contextmanager
def _exclusive(part: Path) -> Iterator[IO[bytes]]:
    """Open the part file for appending; two processes must not write into one file."""
    try:
        stream = part.open("ab", buffering=0)
    except OSError as error:
        raise output_error(part, error) from error
    with stream:
        try:
            import fcntl
        except ImportError:  # Windows itself refuses to rename a file that another process has open
            pass
        else:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DownloadError(
                    f"{part.name} is being downloaded by another process", hint="wait for it, then try again"
                ) from None
        try:
            yield stream
        finally:
            if part.exists() and part.stat().st_size == 0:
                part.unlink()


class _Transfer:
    """Retries one download until all of it is in the stream."""

    def __init__(
        self,
        session: requests.Session,
        url: str,
        file: CardFile,
        stream: IO[bytes],
        options: DownloadOptions,
        progress: Progress | None,
    ) -> None:
        self._session = session
        self._url = url
        self._file = file
        self._stream = stream
        self._options = options
        self._progress = progress
        self.resumed = False

    def run(self) -> None:
        failures, furthest = 0, 0
        while True:
            try:
                return self._attempt()
            except _InterruptedError as interruption:
                here = self._here()
                # Only progress beyond all earlier progress counts; a server that always breaks off early must not
                # keep us for ever.
                failures = 1 if here > furthest else failures + 1
                furthest = max(furthest, here)
                if failures > self._options.retries:
                    raise DownloadError(
                        f"{self._url} cannot be downloaded: {interruption}",
                        hint="check the connection and proxy, try again to continue, or give another --base-url",
                    ) from None
                wait_s = interruption.wait_s
                if wait_s is None:
                    wait_s = self._options.backoff_s * 2 ** (failures - 1) * random.uniform(0.8, 1.2)
                _log.info("%s: %s; trying again in %.1f s", self._file.name, interruption, wait_s)
                time.sleep(min(wait_s, 60.0))

    def _here(self) -> int:
        return self._stream.seek(0, 2)

    def _attempt(self) -> None:
        import requests

        size = self._file.size
        here = self._here()
        if size is not None and here > size:
            self._stream.truncate(0)
            here = 0
        if size is not None and here == size:
            self._tell(here, size)
            return
        self.resumed = self.resumed or here > 0
        headers = {"Range": f"bytes={here}-"} if here else {}
        timeout = self._options.timeout_s
        try:
            with self._session.get(self._url, headers=headers, stream=True, timeout=timeout) as response:
                total = self._judge_answer(response, here)
                for chunk in response.iter_content(_CHUNK_BYTES):
                    self._stream.write(chunk)
                    here = self._here()
                    if here > (size if size is not None else self._options.max_bytes):
                        self._stream.truncate(0)
                        raise DownloadError(
                            f"{self._url} sends more than the {size or self._options.max_bytes} bytes expected"
                        )
                    self._tell(here, total)
        except requests.exceptions.SSLError as error:
            raise DownloadError(f"{self._url}: the server's certificate is not trusted ({_reason(error)})") from error
        except (
            requests.exceptions.InvalidURL,
            requests.exceptions.InvalidSchema,
            requests.exceptions.TooManyRedirects,
        ) as error:
            raise DownloadError(f"{self._url} cannot be downloaded: {_reason(error)}") from error
        except requests.exceptions.RequestException as error:
            raise _InterruptedError(_reason(error)) from error
        if total is not None and here < total:
            raise _InterruptedError(f"the connection ended after {here} of {total} bytes")

    def _judge_answer(self, response: requests.Response, here: int) -> int | None:
        """Raise unless the file's bytes follow; return its whole size if the answer states it."""
        if urlsplit(self._url).scheme == "https" and urlsplit(response.url).scheme != "https":
            raise DownloadError(f"{self._url} redirects to an unencrypted address")
        status = response.status_code
        if status == 416:  # our part is longer than the server's file: it belongs to another version
            self._stream.truncate(0)
            raise _InterruptedError("the server cannot continue the partial file")
        if status in _RETRIED_STATUS:
            after = response.headers.get("Retry-After", "")
            raise _InterruptedError(
                f"the server answered {status} {response.reason}", float(after) if after.isdigit() else None
            )
        if status not in (200, 206):
            raise DownloadError(
                f"{self._url} was refused: {status} {response.reason}",
                hint="the file may have moved; give another --base-url, or download it by hand and pass its path",
            )
        if status == 206:
            span = response.headers.get("Content-Range", "")
            if not span.startswith(f"bytes {here}-"):
                self._stream.truncate(0)
                raise _InterruptedError(f"the server continued at another place ({span or 'unnamed'})")
            whole = span.rpartition("/")[2]
            total = int(whole) if whole.isdigit() else None
        else:
            if here:  # the server ignores ranges and sends everything again
                self._stream.truncate(0)
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
        if self._file.size is not None and total is not None and total != self._file.size:
            raise DownloadError(
                f"{self._url} is {total} bytes",
                expected=f"{self._file.size} bytes, as published",
                hint="the address may lead to a page instead of the file; try another --base-url",
            )
        if total is not None and total > self._options.max_bytes:
            raise DownloadError(f"{self._url} is {total} bytes", expected=f"at most {self._options.max_bytes}")
        return total if total is not None else self._file.size

    def _tell(self, here: int, total: int | None) -> None:
        if self._progress is not None:
            self._progress(self._file.name, here, total)


def _reason(error: Exception) -> str:
    """Return the most specific part of an exception that wraps others in its text."""
    import requests

    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "the server does not answer"
    if isinstance(error, requests.exceptions.ReadTimeout) or "Read timed out" in str(error):
        return "the server stopped sending"
    text = str(error)
    for known, plain in (
        ("Connection refused", "the connection was refused"),
        ("Name or service not known", "the server's name is unknown"),
        ("Temporary failure in name resolution", "the server's name cannot be looked up; is this machine online?"),
        ("nodename nor servname", "the server's name is unknown"),
        ("Network is unreachable", "the network cannot be reached"),
        ("IncompleteRead", "the connection ended early"),
        ("Connection aborted", "the connection was cut"),
        ("Connection reset", "the connection was cut"),
        ("ProxyError", "the proxy refuses"),
    ):
        if known in text:
            return plain
    return " ".join(text.split())[:160]
