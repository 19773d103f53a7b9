"""Type check of a downloaded file against its name.

For files without a published hash this is the only check, made before their hash is recorded. Nothing in the file is
executed.
"""

from __future__ import annotations

import importlib.util
import re
import zipfile
from pathlib import Path

from featherpose.errors import CheckpointError, DownloadError

__all__ = ["check_kind"]

# Before version 1.6 PyTorch wrote pickles in a row, the first of which is this number.
_OLD_PYTORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_HTML = re.compile(rb"\s*<(!doctype\s+html|html)\b", re.IGNORECASE)
_PYTORCH = (".pth", ".pt", ".ckpt")


def check_kind(path: Path, name: str) -> None:
    """Reject a file that is not of the type of its name.

    Where PyTorch is installed, a checkpoint must hold tensors of a network that `featherpose.nn` knows; otherwise it
    must at least have the form of one.

    Args:
        path: The file, under its temporary name.
        name: Its final name.

    Raises:
        DownloadError: With its real type, if that is known.
    """
    with path.open("rb") as file:
        start = file.read(1024)
    suffix = Path(name).suffix.lower()
    if _HTML.match(start):
        raise _refused(name, "a web page")
    if not start.strip(b"\0"):
        raise _refused(name, "a file of zeros")
    if suffix in _PYTORCH and not start.startswith(_OLD_PYTORCH) and not _is_pytorch_archive(path):
        raise _refused(name, "no PyTorch checkpoint")
    if suffix == ".xml" and not start.lstrip(b"\xef\xbb\xbf").lstrip().startswith((b"<?xml", b"<net")):
        raise _refused(name, "no XML")
    if suffix in _PYTORCH and importlib.util.find_spec("torch") and importlib.util.find_spec("safetensors"):
        from featherpose.nn.checkpoints import read_checkpoint

        try:
            read_checkpoint(path).network  # noqa: B018 - raises unless the tensors are of a known network
        except CheckpointError as error:
            raise DownloadError(f"what arrived as {name} is no checkpoint that can be used: {error}") from error


def _is_pytorch_archive(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(entry.endswith("/data.pkl") for entry in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _refused(name: str, what: str) -> DownloadError:
    return DownloadError(
        f"what arrived as {name} is {what}", hint="nothing was kept; try again later or another --base-url"
    )
