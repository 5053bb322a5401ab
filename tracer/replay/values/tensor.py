"""A tensor of the library: its spec, the elements that were recorded, and views into it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product
from types import EllipsisType
from typing import TypeAlias

import numpy as np

from tracer.errors import UsageError
from tracer.replay.values.elements import Absent, Element, Elements
from tracer.replay.values.value import Index, Item, Make, Value, sequence, short
from tracer.schema.tensors import TensorInfo


@dataclass(frozen=True)
class Added:
    """A dimension that ``None`` added, which the tensor itself does not have.

    Attributes:
        places: its indices.
    """

    places: range = range(1)


Axis: TypeAlias = int | range | Added
"""A dimension of the whole tensor, fixed at an index or cut to a range; or one that was added."""

_SHOWN = 6
"""Elements of a preview."""

_SCALAR, _NOTHING = TensorInfo(shape=(), dtype="float32", device="cpu"), Absent("nothing is known of it")


@dataclass(frozen=True)
class Tensor(Value):
    """A tensor or a view into one.

    Attributes:
        info: spec of the whole tensor.
        elements: its elements.
        axes: what the view has of each dimension.
        statistics: of the whole tensor, in one line; empty if they are not known.
        remark: what else is to know about the values; empty for nothing.
    """

    text: str = ""
    type_name: str = "Tensor"
    info: TensorInfo = _SCALAR
    elements: Elements = _NOTHING
    axes: tuple[Axis, ...] = ()
    statistics: str = ""
    remark: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return tuple(len(_places(axis)) for axis in self.axes if not isinstance(axis, int))

    @property
    def named(self) -> int:
        """Number of facts about it."""
        return len(self._facts)

    @property
    def indexed(self) -> int:
        """Size of its first dimension."""
        return self.shape[0] if self.shape else 0

    def names(self) -> Sequence[Item]:
        """Its spec, statistics, and why values are missing."""
        return [Item(name, make()) for name, make in self._facts.items()]

    def page(self, start: int, count: int) -> Sequence[Item]:
        """Its parts along the first dimension."""
        places = range(self.indexed)[max(0, start) :][: max(0, count)]
        return [Item(str(place), self.at(place)) for place in places]

    def attribute(self, name: str) -> Value:
        """``shape``, ``dtype``, ``device`` and ``ndim``; other facts by their names too."""
        if name == "ndim":
            return Value(str(len(self.shape)), "int")
        if name not in self._facts:
            raise UsageError(f"a recorded tensor has .{', .'.join((*self._facts, 'ndim'))}; not .{name}")
        return self._facts[name]()

    def at(self, index: Index) -> Tensor:
        """A view: ``tensor[0, -1, :5]``."""
        keys = index if isinstance(index, tuple) else (index,)
        return view(self.info, self.elements, _cut(self.axes, keys), self.statistics, self.remark)

    def element(self) -> Element:
        """The one element of a view without dimensions."""
        return next(self._first(1))

    @cached_property
    def _facts(self) -> dict[str, Make]:
        facts: dict[str, Make] = {
            "shape": lambda: sequence([Value(str(size), "int") for size in self.shape], "torch.Size"),
            "dtype": lambda: Value(f"torch.{self.info.dtype}", "torch.dtype"),
            "device": lambda: Value(self.info.device, "torch.device"),
        }
        if self.statistics:
            facts["statistics"] = lambda: Value(self.statistics, "str")
        about = "; ".join(filter(None, (self.elements.missing, self.remark)))
        if about:
            facts["values"] = lambda: Value(about, "str")
        return facts

    def _first(self, count: int) -> Iterator[Element]:
        for place in islice(product(*(_places(axis) for axis in self.axes)), count):
            pairs = zip(place, self.axes, strict=True)
            yield self.elements.at(tuple(index for index, axis in pairs if not isinstance(axis, Added)))

    def line(self) -> str:
        """The tensor in one short line."""
        if not self.shape:
            found = self.element()
            return number(found) if found is not None else f"not in the recording: {self.elements.missing}"
        head = f"{list(self.shape)} {self.info.dtype}"
        return short(f"{head}: {self._values()}") if 0 not in self.shape else head

    def _values(self) -> str:
        found = list(self._first(_SHOWN + 1))
        if all(each is None for each in found):
            why = self.elements.missing
            return f"{self.statistics} ({why})" if self.statistics else why
        listed = ", ".join("?" if each is None else number(each) for each in found[:_SHOWN])
        return f"{listed}, …" if len(found) > _SHOWN else listed


def tensor(info: TensorInfo, elements: Elements, *, statistics: str = "", remark: str = "") -> Tensor:
    """A whole tensor.

    Args:
        info: its spec.
        elements: its elements.
        statistics: in one line.
        remark: what else is to know about the values.
    """
    return view(info, elements, tuple(range(size) for size in info.shape), statistics, remark)


def view(
    info: TensorInfo, elements: Elements, axes: tuple[Axis, ...], statistics: str, remark: str
) -> Tensor:
    """A view into a tensor, with its one line."""
    made = Tensor("", "Tensor", info, elements, axes, statistics, remark)
    return Tensor(made.line(), "Tensor", info, elements, axes, statistics, remark)


def number(element: np.generic) -> str:
    """An element with as many digits as it takes to tell it from its neighbours."""
    return str(element)


def _places(axis: Axis) -> Sequence[int]:
    """The indices of a dimension that a view has."""
    if isinstance(axis, Added):
        return axis.places
    return (axis,) if isinstance(axis, int) else axis


def _cut(axes: tuple[Axis, ...], keys: tuple[Index, ...]) -> tuple[Axis, ...]:
    """The axes of a view into a view."""
    queue = _spread(keys, sum(1 for axis in axes if not isinstance(axis, int)))
    result: list[Axis] = []
    for axis in axes:
        if isinstance(axis, int):
            result.append(axis)
            continue
        while queue and queue[0] is None:
            queue.pop(0)
            result.append(Added())
        result += _taken(axis, queue.pop(0) if queue else slice(None))
    return (*result, *(Added() for _ in queue))


def _spread(keys: tuple[Index, ...], free: int) -> list[Index]:
    """One key for each free dimension, an ellipsis replaced by as many slices as it stands for."""
    ellipses = sum(1 for key in keys if isinstance(key, EllipsisType))
    taken = sum(1 for key in keys if key is not None) - ellipses
    if ellipses > 1:
        raise UsageError("only one ... may stand between brackets")
    if taken > free:
        raise UsageError(f"{taken} indices for a tensor of {free} dimensions")
    spread: list[Index] = []
    for key in keys:
        spread += [slice(None)] * (free - taken) if isinstance(key, EllipsisType) else [key]
    return spread


def _taken(axis: range | Added, key: Index) -> list[Axis]:
    """What a key leaves of a dimension; one that was added goes without a trace when it is indexed."""
    if isinstance(axis, range):
        return [_chosen(axis, key)]
    left = _chosen(axis.places, key)
    return [] if isinstance(left, int) else [Added(left)]


def _chosen(axis: range, key: Index) -> int | range:
    if isinstance(key, slice):
        try:
            return axis[key]
        except (TypeError, ValueError) as error:
            raise UsageError(f"this slice cannot be taken: {error}") from None
    if not isinstance(key, int):
        raise UsageError(f"a tensor is indexed with numbers, slices, ... and None, not with {key!r}")
    if not -len(axis) <= key < len(axis):
        raise UsageError(f"index {key} is outside a dimension of {len(axis)}")
    return axis[key]
