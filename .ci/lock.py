"""Write the versions that this environment has of all that the development extra needs.

    python .ci/lock.py

Run it where the tests are green. The file has names and versions only, so that it holds on every machine and index; it
is a list of constraints: ``pip install --constraint .ci/requirements.lock -e ".[dev]"``.
"""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

_HERE = Path(__file__).resolve().parent


def closure(requirements: list[str], own: str, extras: dict[str, list[str]]) -> dict[str, str]:
    """Name and version of everything that requirements bring, as far as it is installed."""
    found: dict[str, str] = {}
    waiting = [Requirement(text) for text in requirements]
    seen: set[tuple[str, str]] = set()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for extra in ["", *sorted(wanted.extras)]:
            if (name, extra) in seen or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
                continue
            seen.add((name, extra))
            if name == own:
                waiting += [Requirement(text) for text in extras.get(extra, [])]
                continue
            try:
                package = metadata.distribution(name)
            except metadata.PackageNotFoundError:
                continue
            found[name] = Version(package.version).public  # without the label of a local build
            for text in package.requires or []:
                inner = Requirement(text)
                if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                    inner.marker = None
                    waiting.append(inner)
    return found


def main() -> None:
    """Write ``requirements.lock`` beside this file."""
    project = tomllib.loads((_HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = canonicalize_name(project["name"])
    extras = project["optional-dependencies"]
    found = closure([*project["dependencies"], *extras["dev"]], own, extras)
    lines = [f"{name}=={version}" for name, version in sorted(found.items())]
    (_HERE / "requirements.lock").write_text("\n".join(["# Written by .ci/lock.py.", *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
