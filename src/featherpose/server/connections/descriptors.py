"""Limit of open files: every connection needs one descriptor."""

from __future__ import annotations

import sys

from featherpose.errors import OptionError

__all__ = ["descriptors_needed", "lingering_limit", "provide_descriptors"]

# The model, the page, sources and their files, the event loop, worker threads.
_RESERVE = 128


def lingering_limit(connections: int) -> int:
    """Return the connections beyond the limit that are open briefly, to send the refusal.

    Example:
        >>> lingering_limit(512)
        256
    """
    return max(64, connections // 2)


def descriptors_needed(connections: int) -> int:
    """Return the number of open files of a server with this many connections.

    Example:
        >>> descriptors_needed(512)
        896
    """
    return connections + lingering_limit(connections) + _RESERVE


def provide_descriptors(connections: int) -> None:
    """Raise the soft limit of open files to what the connections need.

    Raises:
        OptionError: If the hard limit is below it.
    """
    if sys.platform == "win32":
        return  # no such limit
    import resource

    needed = descriptors_needed(connections)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        fitting = next((n for n in range(connections, 0, -1) if descriptors_needed(n) <= hard), 0)
        raise OptionError(
            f"{connections} connections need {needed} open files and this process may have {hard}",
            expected=f"--connections of at most {fitting}" if fitting else None,
            hint=f"allow more: ulimit -n {needed}",
        )
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError) as error:
        raise OptionError(
            f"{connections} connections need {needed} open files and the limit of {soft} cannot be raised: {error}",
            hint=f"raise it before the start: ulimit -n {needed}",
        ) from error
