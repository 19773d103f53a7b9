"""The run-time type checker behind the array shapes in signatures, active under pytest only."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

# An int where a float is declared is fine (PEP 484's numeric tower).
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
