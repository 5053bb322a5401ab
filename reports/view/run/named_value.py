"""A named figure of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NamedValue:
    """A named figure and what it means.

    Attributes:
        name: its name.
        value: its value as text.
        meaning: in plain words, None where the name says it.
    """

    name: str
    value: str
    meaning: str | None = None
