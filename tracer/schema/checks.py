"""What became of the checks that a step was put to."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from tracer.schema.base import Record

CheckName = Literal[
    "cache",
    "positions",
    "modules",
    "finite",
    "contrast",
    "beams",
    "constraints",
    "returned",
    "assisted",
    "ranking",
    "selection",
]
"""The checks of a step, and those of :data:`OF_WHOLE_RUNS`."""

OF_WHOLE_RUNS: frozenset[CheckName] = frozenset({"returned"})
"""Checks that are made once, of what the loop returns in the end."""


CheckResult = Literal["held", "failed", "not made"]


class Check(Record):
    """What became of one check in this step.

    A check fails only where its rule is known to apply to the model and the cache; where that is not known,
    or what it needs was not to be had, it was not made.

    Attributes:
        name: which check.
        result: whether it held, failed, or was not made.
        checked: number of things checked (cache: layers; modules: calls; positions: rows).
        total: number of things there were.
        reason: why it was not made; None where it was.
        note: what has to be said of it besides: things that could not be checked, or that look like a fault
            and are none.
    """

    name: CheckName
    result: CheckResult
    checked: int = 0
    total: int = 0
    reason: str | None = None
    note: str | None = None

    @staticmethod
    def made(name: CheckName, *, holds: bool, checked: int, total: int, note: str | None = None) -> Check:
        """A check that was made.

        Args:
            name: which check.
            holds: whether it held.
            checked: number of things checked.
            total: number of things there were.
            note: what has to be said of it besides.
        """
        return _made(name, "held" if holds else "failed", checked, total, note)

    @staticmethod
    def not_made(name: CheckName, reason: str, *, total: int = 0) -> Check:
        """A check that was not made.

        Args:
            name: which check.
            reason: why, as the end of the sentence "not checked: …".
            total: number of things there were.
        """
        return Check(name=name, result="not made", total=total, reason=reason)

    @property
    def held(self) -> bool:
        """Whether it was made and held."""
        return self.result == "held"

    @property
    def failed(self) -> bool:
        """Whether it was made and did not hold."""
        return self.result == "failed"


@lru_cache(maxsize=64)
def _made(name: CheckName, result: CheckResult, checked: int, total: int, note: str | None) -> Check:
    """Nearly all steps of a run have the same checks with the same results."""
    return Check(name=name, result=result, checked=checked, total=total, note=note)


class Violation(Record):
    """A check that did not hold.

    Attributes:
        check: which check.
        message: one line: what was expected and what was found.
        row: the row concerned, None for all.
        module: index of the module concerned.
        layer: the cache layer concerned.
    """

    check: CheckName
    message: str
    row: int | None = None
    module: int | None = None
    layer: int | None = None
