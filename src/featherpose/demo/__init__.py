"""The photograph that is shipped to try featherpose on; ``README.md`` beside it has sources and licenses."""

from pathlib import Path

__all__ = ["PHOTOGRAPH"]

PHOTOGRAPH = Path(__file__).with_name("people.jpg")
"""JPEG, 1267x512 pixels, three people, public domain."""
