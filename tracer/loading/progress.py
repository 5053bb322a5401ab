"""Reporting of progress while a model is fetched and loaded."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives what takes time; the command line draws it, tests ignore it."""

    def phase(self, text: str) -> None:
        """A new phase starts, e.g. ``loading the model``."""

    def advance(self, done: int, total: int) -> None:
        """``done`` of ``total`` bytes or items of the phase are finished."""


class SilentProgress:
    """Shows nothing."""

    def phase(self, text: str) -> None:
        """Ignore the phase."""

    def advance(self, done: int, total: int) -> None:
        """Ignore the amount."""
