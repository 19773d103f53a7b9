"""Files are found by their name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import featherpose


def test_no_module_name_occurs_three_times() -> None:
    names = Counter(path.name for path in Path(featherpose.__file__).parent.rglob("*.py") if path.stem != "__init__")
    assert [name for name, count in names.items() if count > 2] == []
