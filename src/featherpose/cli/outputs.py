"""All data files of a run behind one ``write``: opened before the first frame, complete after ``close``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from featherpose.cli.options.predict_options import Targets
from featherpose.cli.source_names import SourceNames
from featherpose.errors import FeatherposeError, OptionError, OutputError
from featherpose.formats.jsonl import JsonlWriter, read_jsonl
from featherpose.formats.record import FrameRecord, PoseWriter, WriterOptions
from featherpose.media.sources.find import SourceRef
from featherpose.output_names import OutputNames, source_name
from featherpose.skeleton import Skeleton

__all__ = ["PoseOutputs"]

STDOUT = "-"


class PoseOutputs:
    """The requested data outputs, one writer for each format.

    Args:
        targets: The requested outputs.
        refs: All sources of the run, none of which may be overwritten.
        skeleton: What the keypoints are.
        names: Names of the sources; made from ``refs`` unless given.
        header: Name the skeleton and the facts of the run in the files whose format leaves the choice.
        facts: Facts of the run.
        resume: Continue the outputs of an earlier run.
        summary: The file of the run's summary, which must be another one.

    Attributes:
        written: The outputs, for messages.
        recovered: Files in which the results of earlier, killed runs are now found.

    Raises:
        OptionError: If two outputs are one file, or a format cannot be written to standard output.
        OutputError: If a file cannot be written.
        MissingExtraError: If a format needs a package that is not installed.
    """

    def __init__(
        self,
        targets: Targets,
        refs: list[SourceRef],
        skeleton: Skeleton,
        *,
        names: SourceNames | None = None,
        header: bool = False,
        facts: Mapping[str, Any] | None = None,
        resume: bool = False,
        summary: Path | None = None,
    ) -> None:
        _check_names(targets, refs, summary)
        self._skeleton = skeleton
        self._resume = resume
        self._targets = targets
        self._writers: list[PoseWriter] = []
        self.written = list(targets.values())
        self.recovered: list[Path] = []
        options = WriterOptions(
            several=len(refs) > 1 or any(len(ref.paths) > 1 for ref in refs),
            header=header,
            facts=facts or {},
            resume=resume,
            order=(names or SourceNames(refs)).order,
        )
        try:
            for writer, name in targets.items():
                target: Path | TextIO = sys.stdout if name == STDOUT else Path(name)
                if not resume and isinstance(target, Path):
                    self.recovered += writer.recover(target)
                self._writers.append(writer(target, skeleton, options))
        except BaseException:
            self._close(failing=True)
            raise

    @property
    def unfinished(self) -> list[Path]:
        """Return the temporary names of outputs until the run ends."""
        return [path for writer in self._writers if (path := writer.unfinished) is not None]

    @property
    def resumes(self) -> bool:
        """Return whether an earlier run is continued."""
        return self._resume

    def holds(self, record: FrameRecord) -> bool:
        """Return True if every output has this frame from the run that is resumed."""
        return self._resume and all(writer.holds(record) for writer in self._writers)

    def earlier(self, source: str) -> Iterator[FrameRecord]:
        """Yield the frames of a source that the run which is resumed wrote, where a format tells all of them."""
        name = self._targets.get(JsonlWriter)
        if not self._resume or name is None or name == STDOUT or not Path(name).exists():
            return
        for record in read_jsonl(name, self._skeleton):
            if record.source in ("", source):
                yield record

    def write(self, record: FrameRecord) -> None:
        """Append the people of one frame to every file that does not hold it yet.

        Raises:
            OutputError: If one of them cannot be written.
        """
        for writer in self._writers:
            if not self._resume or not writer.holds(record):
                writer.write(record)

    def close(self) -> None:
        """Complete every file.

        Raises:
            OutputError: If one cannot be completed; the others are.
        """
        self._close(failing=False)

    def _close(self, *, failing: bool) -> None:
        first: FeatherposeError | None = None
        while self._writers:
            try:
                writer = self._writers.pop(0)
                if failing:
                    writer.abandon()
                else:
                    writer.close()
            except FeatherposeError as error:
                first = first or error
        if first is not None and not failing:
            raise first

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The first failure is reported: those that follow from it must not hide it.
        self._close(failing=kind is not None and not issubclass(kind, KeyboardInterrupt))


def _check_names(targets: Targets, refs: list[SourceRef], summary: Path | None) -> None:
    sources = OutputNames(path for ref in refs for path in ref.paths)
    taken = OutputNames()
    streams = 0
    for writer, name in [*targets.items(), *([] if summary is None else [(None, str(summary))])]:
        if name == STDOUT:
            if writer is not None and not writer.STREAMS:
                raise OptionError(f"--{writer.OPTION} -: this format is no text", expected="the name of a file")
            streams += 1
            if streams > 1:
                raise OptionError("standard output (-) is named for two outputs", expected="one")
            continue
        path = Path(name)
        if sources.is_taken(path):
            raise OutputError(f"{source_name(path)} is one of the sources", hint="choose another name for the output")
        if taken.is_taken(path):
            raise OptionError(f"{source_name(path)} is named for two outputs", expected="a file of its own for each")
        taken.add(path)
