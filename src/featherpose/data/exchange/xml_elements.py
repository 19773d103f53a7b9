"""Parse untrusted XML element by element: no document type, bounded depth, elements are freed after use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from featherpose.data.coco_file import MAX_ANNOTATION_BYTES
from featherpose.errors import DatasetError
from featherpose.parsing import reason_of

__all__ = ["elements"]

_MAX_DEPTH = 12


def elements(path: Path, wanted: frozenset[str]) -> Iterator[ElementTree.Element]:
    """Yield the elements of some names, outermost ones only, each whole; they are emptied afterwards.

    Args:
        path: An XML file of at most a gigabyte.
        wanted: Names of the elements.

    Raises:
        DatasetError: If the file cannot be read, is no XML, declares a document type, or nests too deep.
    """
    inside = depth = 0
    root: ElementTree.Element | None = None
    try:
        if path.stat().st_size > MAX_ANNOTATION_BYTES:
            raise DatasetError(f"{path} is larger than 1 GB")
        with path.open("rb") as file:
            # Entities, which unfold to far more than the file, are declared in a document type.
            if b"<!DOCTYPE" in file.read(2**16).replace(b"\0", b""):
                raise DatasetError(f"{path} declares a document type", expected="plain XML")
            file.seek(0)
            for event, element in ElementTree.iterparse(file, events=("start", "end")):
                if event == "start":
                    depth += 1
                    root = element if root is None else root
                    inside += element.tag in wanted
                    if depth > _MAX_DEPTH:
                        raise DatasetError(f"{path} is nested more than {_MAX_DEPTH} levels deep")
                    continue
                depth -= 1
                if element.tag in wanted:
                    inside -= 1
                    if not inside:
                        yield element
                        element.clear()
                if not inside and depth == 1 and root is not None:
                    root.clear()
    except ElementTree.ParseError as error:
        raise DatasetError(
            f"{path} is no XML, cut off or damaged: {reason_of(error)}", hint="export it again"
        ) from error
    except (ValueError, LookupError) as error:  # an unknown encoding
        raise DatasetError(f"{path} cannot be read: {error}") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
