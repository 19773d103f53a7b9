"""Poses in files: JSON Lines, COCO results, OpenPose JSON, CSV, Parquet.

A new format is one module with one subclass of `PoseWriter` and one line in `WRITERS`.
"""

from featherpose.formats.coco import CocoWriter
from featherpose.formats.csv_table import CsvWriter
from featherpose.formats.jsonl import JsonlWriter
from featherpose.formats.openpose import OpenPoseWriter
from featherpose.formats.parquet import ParquetWriter
from featherpose.formats.record import PoseWriter

__all__ = ["WRITERS"]

WRITERS: tuple[type[PoseWriter], ...] = (
    JsonlWriter,
    CocoWriter,
    OpenPoseWriter,
    CsvWriter,
    ParquetWriter,
)
"""Every format, in the order of the help: what ``predict``, ``live --save`` and the documentation know."""
