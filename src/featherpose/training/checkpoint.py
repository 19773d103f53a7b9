"""Training states: complete or absent, readable without unpickling code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from featherpose.errors import CheckpointError, OutputError
from featherpose.files import output_error
from featherpose.nn.checkpoints import load_values, reader_message

__all__ = ["load_state", "save_state"]


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a training state; complete or not at all, and flushed to the disk before the old one goes.

    Raises:
        OutputError: If it cannot be written, for instance on a full disk; the earlier checkpoint is intact.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        # PyTorch reports a full disk as an unexpected position; the system's error is its context.
        cause = error if isinstance(error, OSError) else error.__context__
        given = output_error(path, cause).given if isinstance(cause, OSError) else f"{path} cannot be written ({error})"
        raise OutputError(given, hint="the earlier checkpoint is intact") from error


def load_state(path: Path) -> dict[str, Any]:
    """Read a training state without unpickling code.

    Raises:
        CheckpointError: If the file is missing, truncated or holds anything but tensors and plain values.
    """
    try:
        state = load_values(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except Exception as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint ({reader_message(error)})") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds no training state")
    return state
