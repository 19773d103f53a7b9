"""Which run an output belongs to: written before the first result, compared by every rerun, told by the manifest."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from featherpose import __version__
from featherpose.cluster.batch_options import BatchOptions
from featherpose.cluster.outputs.shards import Counts
from featherpose.cluster.storage import Location, Store, is_uri, shown_uri
from featherpose.errors import OptionError, OutputError
from featherpose.parsing import ParseError, parse_json

__all__ = ["MANIFEST", "RUN", "check_output", "run_identity", "write_manifest"]

RUN = "_work/run.json"
MANIFEST = "manifest.json"
_VERSION = 1
# What a run leaves that ended before it had claimed the output.
_BEGINNINGS = ("_probe", "_work")
_PACKAGES = ("ray", "numpy", "openvino", "opencv-python-headless", "pyarrow", "fsspec", "av")


def run_identity(
    sources: list[str], options: BatchOptions, model: dict[str, Any], skeleton: dict[str, Any]
) -> dict[str, Any]:
    """Return plain data that tells one run from another."""
    return {
        "featherpose_batch": _VERSION,
        "sources": [_named(source) for source in sources],
        "options": {**options.detection.identity(), "formats": sorted(options.formats)},
        "model": model,
        "skeleton": skeleton,
        "versions": _versions(),
    }


def _named(source: str) -> str:
    return shown_uri(source) if is_uri(source) else Location(source).uri


def _versions() -> dict[str, str]:
    found = {"featherpose": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def check_output(store: Store, identity: dict[str, Any]) -> bool:
    """Find out whether an output can be written to by this run, and claim it.

    Returns:
        Whether an earlier run of the same kind is continued.

    Raises:
        OptionError: If it belongs to a run with other sources or options.
        OutputError, StoreError: If it holds something else, or cannot be written to.
    """
    data = store.read(RUN)
    identity = json.loads(json.dumps(identity))
    if data is None:
        if _holds_something(store):
            raise OutputError(
                f"{store.shown} holds something that is no batch run", hint="choose a folder that is new or empty"
            )
        store.check()
        store.write(RUN, json.dumps(identity, indent=1, ensure_ascii=False).encode())
        return False
    try:
        before = parse_json(data)
        if not isinstance(before, dict) or before["featherpose_batch"] != _VERSION:
            raise KeyError("featherpose_batch")
        _compare(store, before, identity)
    except (ParseError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"{store.shown} belongs to a run that this version cannot continue") from error
    store.check()
    return True


def _compare(store: Store, before: dict[str, Any], now: dict[str, Any]) -> None:
    hint = "choose another --out, or give the same options"
    if before["sources"] != now["sources"]:
        raise OptionError(
            f"{store.shown} belongs to a run over {_few(before['sources'])}, not over {_few(now['sources'])}", hint=hint
        )
    changed = [
        f"{name} was {json.dumps(before['options'].get(name))} and is {json.dumps(value)}"
        for name, value in now["options"].items()
        if before["options"].get(name) != value
    ]
    if before["model"]["sha256"] != now["model"]["sha256"]:
        changed.append(f"the model was {before['model']['name']} and is {now['model']['name']}, or its files changed")
    if changed:
        raise OptionError(f"{store.shown} belongs to a run with other options: {'; '.join(changed)}", hint=hint)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _holds_something(store: Store) -> bool:
    local = store.location.local
    if local is not None:
        if local.exists() and not local.is_dir():
            raise OutputError(f"{local} is a file", expected="a folder, or a name that is free")
        return local.is_dir() and any(
            entry.name not in _BEGINNINGS and not entry.name.startswith(".") for entry in Path(local).iterdir()
        )
    return next(store.names("units"), None) is not None


def write_manifest(
    store: Store, counts: Counts, *, shards: int, complete: bool, runs_in: dict[str, Any] | None
) -> None:
    """Write what a run came to, whole or not at all.

    Raises:
        OutputError, StoreError: If that fails.
    """
    data = json.loads(store.read(RUN) or b"{}")
    if runs_in is None:  # this run had nothing to do: what did it is told by the manifest before
        runs_in = json.loads(store.read(MANIFEST) or b"{}").get("runs_in")
    failures = [{"source": source, "error": error} for source, error in counts.failures]
    manifest = {
        "featherpose_batch": _VERSION,
        "complete": complete,
        "units": counts.units,
        "failed": counts.failed,
        "frames": counts.frames,
        "people": counts.people,
        "bytes": counts.bytes,
        "shards": shards,
        "failures": failures,
        "failures_left_out": counts.failed - len(failures),
        "runs_in": runs_in,
        **{name: data[name] for name in ("sources", "options", "model", "skeleton", "versions") if name in data},
    }
    store.write(MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False).encode())
