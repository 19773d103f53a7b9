"""``featherpose train``: train a network from a configuration file."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from featherpose.cli.report import write_json
from featherpose.errors import ConfigError, MissingExtraError, OptionError, OutputError, TrainingError
from featherpose.files import write_bytes

__all__ = ["train"]

# Share of the keypoints that the smoke run must find in its own images.
_SMOKE_PCK = 0.8


def train(
    config: Annotated[Path | None, Parameter(help="TOML file, or the name of a configuration that ships.")] = None,
    *,
    out: Annotated[
        Path | None, Parameter(help="Folder of the run; runs/NAME of the configuration if left out.")
    ] = None,
    copy: Annotated[
        bool, Parameter(help="Only copy a configuration that ships into this folder, to be changed.", negative="")
    ] = False,
    resume: Annotated[bool, Parameter(help="Go on from the run's last checkpoint.", negative="")] = False,
    smoke: Annotated[
        bool, Parameter(help="Train on drawn scenes for a minute or two: does training work here?", negative="")
    ] = False,
    set_: Annotated[
        list[str] | None,
        Parameter(name="--set", help="KEY=VALUE replaces a value of the configuration, such as run.steps=500."),
    ] = None,
    json_: Annotated[Path | None, Parameter(name="--json", help="Write the result to this file.")] = None,
) -> None:
    """Train a network.

    The folder of the run receives best.safetensors (the best weights by the validation images), last.pt (for
    --resume), log.csv, TensorBoard events, curves.png and preview.jpg. Paths in a configuration are relative to it;
    in one that ships and is named, not copied, to this folder.
    """
    if smoke == (config is not None):
        raise OptionError("nothing to train" if not smoke else "--smoke takes no configuration",
                          expected="a TOML file, or --smoke alone")  # fmt: skip
    if copy and config is not None:
        _copy(config)
        return
    try:
        from featherpose.training.loop import train as run_training
        from featherpose.training.smoke import smoke_run
    except ImportError as error:
        raise MissingExtraError("training", "train") from error
    leads = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), disable=not (leads and sys.stderr.isatty()),
    ) as progress:  # fmt: skip
        task = progress.add_task("training", total=None)

        def show(step: int, loss: float) -> None:
            progress.update(task, completed=step, description=f"loss {loss:.4g}")

        if smoke:
            folder = out or Path(tempfile.mkdtemp(prefix="featherpose-smoke-"))
            progress.update(task, total=150)
            result = smoke_run(folder, steps=150, on_step=show)
        else:
            from featherpose.training.config import load_config

            if config is None:
                raise OptionError("nothing to train", expected="a TOML file")
            path = config if config.is_file() else _shipped(config)
            here = None if config.is_file() else Path()
            settings = load_config(path, overrides=_overrides(set_ or []), folder=here)
            progress.update(task, total=settings.run.steps)
            folder = out or Path("runs") / path.stem
            result = run_training(settings, folder, resume=resume, on_step=show)
    facts = {
        "folder": str(result.folder),
        "steps": result.steps,
        "loss": result.loss,
        "metric": result.metric,
        "images_per_s": result.images_per_s,
    }
    if leads:  # first to the terminal: a file that cannot be written must not lose the result
        print(json.dumps(facts, allow_nan=False), flush=True)
        if json_ is not None:
            write_json(json_, facts)
    found = result.metric or 0.0
    if smoke and found < _SMOKE_PCK:
        raise TrainingError(
            f"the smoke run finds {found:.0%} of the keypoints in its own images",
            expected=f"at least {_SMOKE_PCK:.0%}",
            hint=f"look at {folder / 'preview.jpg'} and {folder / 'curves.png'}",
        )


def _shipped(config: Path) -> Path:
    """Return the path of a shipped configuration by its name."""
    shipped = Path(__file__).parents[2] / "training" / "configs"
    named = shipped / f"{config.name.removesuffix('.toml')}.toml"
    if config.parent == Path() and named.is_file() and named.suffixes == [".toml"]:
        return named
    names = ", ".join(sorted(p.stem for p in shipped.glob("*.toml") if p.suffixes == [".toml"]))
    raise ConfigError(f"{config} is no file", expected=f"a TOML file or one of {names}")


def _copy(config: Path) -> None:
    """Copy a shipped configuration, and its skeleton file if it has one, into the current folder."""
    path = _shipped(config)
    files = [file for file in (path, path.with_suffix(".skeleton.toml")) if file.is_file()]
    if present := [file.name for file in files if Path(file.name).exists()]:
        raise OutputError(f"{present[0]} is here already", expected="a folder without it", hint="it is left as it is")
    for file in files:
        write_bytes(Path(file.name), file.read_bytes())
        print(file.name)


def _overrides(pairs: list[str]) -> dict[str, str]:
    result = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise OptionError(f"--set {pair}", expected="KEY=VALUE, such as --set run.steps=500")
        result[key] = value
    return result
