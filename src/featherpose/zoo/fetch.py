"""Download of a model of the catalog into the cache: all its files, or an error."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from featherpose.errors import DownloadError, OptionError
from featherpose.zoo.card import CardFile, ModelCard
from featherpose.zoo.catalog import model_folder, state
from featherpose.zoo.checksums import judge
from featherpose.zoo.download import DownloadOptions, Progress, download

__all__ = ["fetch_model", "is_offline", "source_url"]


def is_offline() -> bool:
    """Return whether ``FEATHERPOSE_OFFLINE`` forbids the network."""
    return os.environ.get("FEATHERPOSE_OFFLINE", "") not in ("", "0")


def source_url(file: CardFile, base_url: str | None = None) -> str:
    """Return the address of a file: the published one, or the same path on a mirror.

    Args:
        file: A file of a card.
        base_url: Address of a mirror; ``FEATHERPOSE_MIRROR`` if left out.

    Raises:
        OptionError: If the mirror is no http address.
        DownloadError: If the file is published nowhere.

    Example:
        >>> source_url(CardFile(name="a.bin", url="https://example.org/models/a.bin"), "http://mirror.lan/x/")
        'http://mirror.lan/x/models/a.bin'
    """
    if file.url is None:
        raise DownloadError(f"the card names no address for {file.name}")
    mirror = base_url or os.environ.get("FEATHERPOSE_MIRROR")
    if not mirror:
        return file.url
    if urlsplit(mirror).scheme not in ("http", "https") or not urlsplit(mirror).netloc:
        raise OptionError(f"mirror {mirror!r}", expected="an address that starts with http:// or https://")
    return mirror.rstrip("/") + urlsplit(file.url).path


def fetch_model(
    card: ModelCard,
    *,
    base_url: str | None = None,
    offline: bool | None = None,
    force: bool = False,
    accept_unpinned: bool = False,
    options: DownloadOptions | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch missing files; correct files are left unchanged.

    Args:
        card: The model.
        base_url: A mirror with the same paths.
        offline: True forbids the network; ``FEATHERPOSE_OFFLINE`` decides if left out.
        force: Download present files, too.
        accept_unpinned: Accept files for which no hash is published; their type is checked and their hash recorded.
        options: Timeouts and retries.
        progress: Called with every chunk.

    Returns:
        The path of the file that ``--model`` would open.

    Raises:
        DownloadError: If a file cannot be had, or has no published hash and ``accept_unpinned`` is not set.
        OutputError: If the cache cannot be written.
    """
    folder = model_folder(card)
    if not card.files:
        raise DownloadError(f"the card of model {card.name!r} lists no files")
    if state(card) == "bundled":
        return folder / card.files[0].name
    for file in card.files:
        destination = folder / file.name
        if not force and judge(destination, file).startswith("ok"):
            if progress is not None:
                size = destination.stat().st_size
                progress(file.name, size, size)
            continue
        if is_offline() if offline is None else offline:
            raise DownloadError(
                f"model {card.name!r} lacks {file.name}, and offline mode forbids downloads",
                hint=f"unset FEATHERPOSE_OFFLINE, or copy the file to {folder}",
            )
        if not file.has_hash and not accept_unpinned:
            raise DownloadError(
                f"no hash is published for {file.name}, so nothing can vouch for what arrives",
                hint="take it all the same with --accept-unpinned (in Python: accept_unpinned=True)",
            )
        download(source_url(file, base_url), destination, file, options=options, progress=progress)
    return folder / card.files[0].name
