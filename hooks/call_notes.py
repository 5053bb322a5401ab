"""Module calls of a step as they are noted: while they return, and once they are recognised."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from hooks.statistics import NonFinite, Reduced

Sizes = tuple[list[torch.Size], list[torch.Size]]


class KnownCall(NamedTuple):
    """What a call of a module looks like; the same object for every call that looks the same.

    Attributes:
        module: the module's index.
        number: number of its shape, 0 before the first call.
        kept: whether statistics are taken of its first output.
        size_in: size of the one tensor that goes in; None for a call with more or other arguments.
        size_out: size of the one tensor that comes out; None likewise.
        sizes: sizes of all tensors that go in, and that come out.
    """

    module: int
    number: int
    kept: bool
    size_in: torch.Size | None
    size_out: torch.Size | None
    sizes: Sizes


@dataclass(frozen=True)
class Look:
    """What was seen of an output that is not held.

    Attributes:
        statistics: of its values.
        nonfinite: details, where values are known not to be finite.
    """

    statistics: Reduced
    nonfinite: NonFinite | None


@dataclass
class CallNotes:
    """What was noted while the modules of a forward pass returned.

    Attributes:
        early: whether outputs are looked at when they appear.
        returned: four values a call, in the order in which they returned: the module's index, what went
            in, what came out, and how often its first output had been written in place by then; or for a
            call that was recognised in time the index, its :class:`KnownCall`, its :class:`Look` (None if no
            statistics are taken), and 0. One flat list on purpose: a container a call would feed the
            garbage collector.
        saved: outputs to be stored, by tensor name.
        errors: faults in noting.
    """

    early: bool
    returned: list[Any] = field(default_factory=list)
    saved: dict[str, torch.Tensor] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def copy(self) -> CallNotes:
        """The same notes; what is noted later is not in them."""
        return CallNotes(self.early, [*self.returned], {**self.saved}, [*self.errors])

    def add_fault(self, module: str, error: Exception) -> None:
        """Note a fault in noting a call of the named module."""
        self.errors.append(f"{module or 'model'}: {type(error).__name__}: {error}")


@dataclass
class StepNotes:
    """The calls of a step, recognised.

    Attributes:
        calls: the calls in the order in which they returned.
        places: kept calls without a look.
        arguments: what went into each of these.
        outputs: the first tensor that came out.
        written: those of them, by position, whose output was overwritten in place since the call.
        looks: what was seen of outputs that are not held, by call.
    """

    calls: list[KnownCall] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    arguments: list[Any] = field(default_factory=list)
    outputs: list[torch.Tensor] = field(default_factory=list)
    written: set[int] = field(default_factory=set)
    looks: dict[int, Look] = field(default_factory=dict)
