"""Where the elements of a tensor are: saved whole, as runs of integers, as scores of tokens, or nowhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from tracer.schema.arrays import F32, I32
from tracer.schema.tensors import IntValues

Element: TypeAlias = "np.generic | None"
"""An element; None where the recording does not hold it."""


class Elements(Protocol):
    """The elements of a tensor."""

    @property
    def missing(self) -> str:
        """Why elements are missing; empty if none is."""

    def at(self, place: tuple[int, ...]) -> Element:
        """The element at a place, an index for each dimension."""


@dataclass(frozen=True)
class Absent:
    """No element was recorded.

    Attributes:
        missing: why, and what would have recorded them.
    """

    missing: str

    def at(self, place: tuple[int, ...]) -> Element:
        """No element."""
        return None


@dataclass(frozen=True)
class Whole:
    """All elements, or those from an index of the second dimension on.

    Attributes:
        read: reads them.
        start: first index of the second dimension that was saved.
        missing: why those before it were not; empty if all were saved.
    """

    read: Callable[[], npt.NDArray[Any]]
    start: int = 0
    missing: str = ""

    def at(self, place: tuple[int, ...]) -> Element:
        """The element, None if it lies before the saved ones."""
        if self.start:
            if place[1] < self.start:
                return None
            place = (place[0], place[1] - self.start, *place[2:])
        found: np.generic = self.read()[place]
        return found


@dataclass(frozen=True)
class Runs:
    """Elements of an integer tensor, row-major.

    Attributes:
        values: the elements.
        shape: the tensor's shape.
        boolean: whether they are truth values.
    """

    values: IntValues
    shape: tuple[int, ...]
    boolean: bool = False

    @property
    def missing(self) -> str:
        """Very irregular values are not recorded to their end."""
        return f"its last {self.values.omitted:,} values were not recorded" if self.values.omitted else ""

    def at(self, place: tuple[int, ...]) -> Element:
        """The element, None if it is among those left out."""
        rest = int(np.ravel_multi_index(place, self.shape)) if place else 0
        for start, step, count in self.values.runs:
            if rest < count:
                return np.bool_(start) if self.boolean else np.int64(start + step * rest)
            rest -= count
        return None


@dataclass(frozen=True)
class OfTokens:
    """Scores of the recorded tokens of each row, ``[batch, vocabulary]``.

    Attributes:
        tokens: ``[B, T]`` ids.
        values: ``[B, T]`` their scores.
        others: the score of every other token of a row, None if it is not known.
        missing: why others are missing; empty if none is.
    """

    tokens: I32
    values: F32
    others: tuple[np.float32 | None, ...]
    missing: str

    def at(self, place: tuple[int, ...]) -> Element:
        """The token's score, None if the recording lacks it."""
        row, token = place
        listed = self.tokens[row].tolist()
        return self.values[row][listed.index(token)] if token in listed else self.others[row]
