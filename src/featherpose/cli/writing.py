"""All data files of a run behind one ``write``: opened before the first frame, complete after ``close``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from featherpose.cli.predict_options import FileOptions
from featherpose.errors import OptionError, OutputError
from featherpose.formats.coco import CocoWriter
from featherpose.formats.jsonl import JsonlWriter
from featherpose.formats.openpose import OpenPoseWriter
from featherpose.formats.record import FrameRecord, PoseWriter
from featherpose.formats.tables import CsvWriter, ParquetWriter
from featherpose.media.naming import OutputNames
from featherpose.media.sources import SourceRef
from featherpose.skeleton import Skeleton

__all__ = ["DataFiles", "image_numbers"]


class DataFiles:
    """The JSON Lines, COCO, OpenPose, CSV and Parquet outputs that were asked for.

    Args:
        files: What was asked for.
        refs: All sources of the run, none of which may be overwritten.
        skeleton: What the keypoints are.

    Raises:
        OutputError: If a file cannot be written.
        MissingExtraError: If Parquet is asked for without pyarrow.
    """

    def __init__(self, files: FileOptions, refs: list[SourceRef], skeleton: Skeleton) -> None:
        sources = OutputNames(path for ref in refs for path in ref.paths)
        paths = [p for p in (files.coco, files.csv, files.parquet, files.summary) if p is not None]
        if files.jsonl not in (None, "-"):
            paths.append(Path(str(files.jsonl)))
        taken = OutputNames()
        for path in paths:
            if sources.is_taken(path):
                raise OutputError(f"{path} is one of the sources", hint="choose another name for the output")
            if taken.is_taken(path):
                raise OptionError(f"{path} is named for two outputs", expected="a file of its own for each")
            taken.take(path)
        several = len(refs) > 1 or any(len(ref.paths) > 1 for ref in refs)
        self._stack = ExitStack()
        self._writers: list[PoseWriter] = []
        self._openpose: OpenPoseWriter | None = None
        self.written: list[str] = []
        with ExitStack() as opening:
            add = opening.enter_context
            if files.jsonl is not None:
                target = sys.stdout if files.jsonl == "-" else Path(files.jsonl)
                header = skeleton if files.jsonl_header else None
                self._writers.append(add(JsonlWriter(target, header=header, with_source=several)))
            if files.coco is not None:
                self._writers.append(add(CocoWriter(files.coco)))
            if files.csv is not None:
                self._writers.append(add(CsvWriter(files.csv, skeleton)))
            if files.parquet is not None:
                self._writers.append(add(ParquetWriter(files.parquet, skeleton)))
            if files.openpose is not None:
                self._openpose = add(OpenPoseWriter(files.openpose))
            self._stack = opening.pop_all()
        self.written = [str(p) for p in (files.jsonl, files.coco, files.openpose, files.csv, files.parquet) if p]

    def write(self, record: FrameRecord, *, picture: bool) -> None:
        """Append the people of one frame to every file.

        Raises:
            OutputError: If one of them cannot be written.
        """
        for writer in self._writers:
            writer.write(record)
        if self._openpose is not None:
            self._openpose.write(record, numbered=not picture)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def image_numbers(refs: list[SourceRef]) -> dict[Path, int]:
    """COCO image ids from file names such as ``000000000872.jpg``; none unless every picture has one of its own.

    Example:
        >>> image_numbers([SourceRef("a", (Path("a/000000000872.jpg"), Path("a/17.jpg")))])
        {PosixPath('a/000000000872.jpg'): 872, PosixPath('a/17.jpg'): 17}
        >>> image_numbers([SourceRef("a", (Path("a/1.jpg"), Path("b/1.jpg")))])
        {}
    """
    paths = [path for ref in refs for path in ref.paths]
    if not all(ref.is_pictures for ref in refs) or not all(p.stem.isascii() and p.stem.isdigit() for p in paths):
        return {}
    numbers = {path: int(path.stem) for path in paths}
    return numbers if len(set(numbers.values())) == len(numbers) else {}
