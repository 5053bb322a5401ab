"""A value that a client can look into, part by part; nothing is read before it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import EllipsisType
from typing import TypeAlias

from tracer.errors import UsageError

Index: TypeAlias = "int | str | slice | EllipsisType | tuple[Index, ...] | None"
"""What may stand between brackets."""

MAX_LINE = 160
"""Characters of a value's one line."""


@dataclass(frozen=True)
class Value:
    """A value without parts.

    Attributes:
        text: the value in one line.
        type_name: its type, as the library has it.
    """

    text: str
    type_name: str = ""

    @property
    def named(self) -> int:
        """Number of parts that have a name."""
        return 0

    @property
    def indexed(self) -> int:
        """Number of parts that have an index."""
        return 0

    def names(self) -> Sequence[Item]:
        """Parts that have a name."""
        return ()

    def page(self, start: int, count: int) -> Sequence[Item]:
        """Parts that have an index.

        Args:
            start: index of the first.
            count: how many, at most.
        """
        return ()

    def attribute(self, name: str) -> Value:
        """What follows a dot.

        Raises:
            UsageError: there is no such attribute; the message names those there are.
        """
        raise UsageError(f"{self.type_name or 'this'} has no attribute {name} in a recording")

    def at(self, index: Index) -> Value:
        """What stands between brackets.

        Raises:
            UsageError: it has no such part.
        """
        raise UsageError(f"{self.type_name or 'this'} has no parts to index")


@dataclass(frozen=True)
class Item:
    """A part of a value; made when its parent is opened, and itself not opened.

    Attributes:
        name: its name or index.
        value: the value.
    """

    name: str
    value: Value


Make: TypeAlias = Callable[[], Value]


@dataclass(frozen=True)
class Fields(Value):
    """A value with named parts: a dictionary, or an object with attributes.

    Attributes:
        parts: makes each part, by name.
        by_key: whether parts are found by ``value["name"]``, else by ``value.name``.
    """

    parts: dict[str, Make] = field(default_factory=dict)
    by_key: bool = False

    @property
    def named(self) -> int:
        """Number of parts."""
        return len(self.parts)

    def names(self) -> Sequence[Item]:
        """All parts."""
        return [Item(name, make()) for name, make in self.parts.items()]

    def attribute(self, name: str) -> Value:
        """A part of an object."""
        if self.by_key or name not in self.parts:
            raise UsageError(self._missing(name))
        return self.parts[name]()

    def at(self, index: Index) -> Value:
        """A part of a dictionary."""
        if not self.by_key or not isinstance(index, str) or index not in self.parts:
            raise UsageError(self._missing(index))
        return self.parts[index]()

    def _missing(self, name: object) -> str:
        known = ", ".join(f'["{each}"]' if self.by_key else f".{each}" for each in list(self.parts)[:12])
        return f"{self.type_name} has no part {name!r}; it has {known or 'none'}"


@dataclass(frozen=True)
class Listed(Value):
    """A value whose parts have an index: a tuple, a list.

    Attributes:
        count: number of parts.
        part: makes the part at an index.
        label: the name of the part at an index; by default the index.
        parts: makes further parts that have a name.
    """

    count: int = 0
    part: Callable[[int], Value] = lambda _index: Value("")
    label: Callable[[int], str] = str
    parts: dict[str, Make] = field(default_factory=dict)

    @property
    def named(self) -> int:
        """Number of parts that have a name."""
        return len(self.parts)

    @property
    def indexed(self) -> int:
        """Number of parts that have an index."""
        return self.count

    def names(self) -> Sequence[Item]:
        """Parts that have a name."""
        return [Item(name, make()) for name, make in self.parts.items()]

    def page(self, start: int, count: int) -> Sequence[Item]:
        """Parts from an index on."""
        places = range(self.count)[max(0, start) :][: max(0, count)]
        return [Item(self.label(place), self.part(place)) for place in places]

    def attribute(self, name: str) -> Value:
        """A part that has a name."""
        if name not in self.parts:
            raise UsageError(f"{self.type_name} has no attribute {name} in a recording")
        return self.parts[name]()

    def at(self, index: Index) -> Value:
        """A part by its index."""
        if not isinstance(index, int) or not -self.count <= index < self.count:
            raise UsageError(f"{self.type_name} has the parts 0 to {self.count - 1}, not {index!r}")
        return self.part(index % self.count)


def sequence(values: Sequence[Value], type_name: str = "tuple") -> Listed:
    """A tuple or list of values.

    Args:
        values: its parts.
        type_name: ``tuple`` or ``list``.
    """
    inside = ", ".join(each.text for each in values)
    text = f"({inside})" if type_name == "tuple" else f"[{inside}]"
    return Listed(short(text), type_name, len(values), lambda place: values[place])


def short(text: str, limit: int = MAX_LINE) -> str:
    """A text cut to the length of one line.

    Args:
        text: the text.
        limit: its length.
    """
    return text if len(text) <= limit else text[: limit - 1] + "…"
