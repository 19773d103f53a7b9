"""Training states: complete or absent, readable without unpickling code."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featherpose.errors import CheckpointError, ConfigError, OutputError
from featherpose.files import output_error
from featherpose.nn.checkpoints import load_values, reader_message
from featherpose.training.config import TrainConfig

__all__ = ["Progress", "load_state", "restore_run", "save_run", "save_state"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        step: Batches done.
        updates: Updates of the weights.
        best: Highest value on the validation images.
        seconds: Wall-clock time, without validation, earlier parts of the run included.
    """

    step: int = 0
    updates: int = 0
    best: float = -math.inf
    seconds: float = 0.0


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


def save_run(
    path: Path, config: TrainConfig, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:  # fmt: skip
    """Write all that a run needs to go on.

    Raises:
        OutputError: If it cannot be written; the earlier checkpoint is intact.
    """
    save_state(path, {
        "network": network.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(), "config": _fingerprint(config), **dataclasses.asdict(progress),
    })  # fmt: skip


def restore_run(
    path: Path, config: TrainConfig, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> Progress:
    """Load what `save_run` wrote, the random state included.

    Raises:
        CheckpointError: If the file is damaged, or does not fit the network.
        ConfigError: If it belongs to a run with another configuration.
    """
    state = load_state(path)
    counters = {field.name for field in dataclasses.fields(Progress)}
    if missing := {"network", "average", "optimizer", "random", "config", *counters} - set(state):
        raise CheckpointError(f"{path} is no training state: it lacks {min(missing)!r}")
    if state["config"] != _fingerprint(config):
        raise ConfigError(
            f"{path} belongs to a run with another configuration", expected="the same one", hint="use a new folder"
        )
    try:
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} does not fit the network ({str(error).splitlines()[0]})") from error
    torch.set_rng_state(state["random"])
    return Progress(int(state["step"]), int(state["updates"]), float(state["best"]), float(state["seconds"]))


def _fingerprint(config: TrainConfig) -> str:
    """Describe everything that must not change between a run and its continuation."""
    facts = dataclasses.asdict(config)
    for volatile in ("log_every", "save_every", "validate_every", "validation_limit", "threads", "device"):
        facts["run"].pop(volatile)
    for elsewhere in ("frozen_in_engine", "features_folder"):  # equal results, computed elsewhere
        facts["network"].pop(elsewhere)
    return json.dumps(facts, sort_keys=True, default=str)
