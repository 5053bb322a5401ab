"""Module calls of a step as they are noted while they return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hooks.modules.statistics import NonFinite, Reduced

ShapeKey = tuple[tuple[tuple[torch.Size, torch.dtype, torch.device], ...], ...]
"""Looks of the tensors that went into a call, and of those that came out."""


@dataclass(frozen=True, eq=False)
class KnownCall:
    """What a call looks like; one object for all calls that look alike, so that it is compared by identity.

    Attributes:
        key: looks of all tensors.
        kept: whether statistics are taken of the first tensor that comes out.
    """

    key: ShapeKey
    kept: bool

    @cached_property
    def inputs(self) -> int:
        """How many tensors go in."""
        return len(self.key[0])

    @cached_property
    def sizes(self) -> tuple[torch.Size, ...]:
        """Sizes of the tensors that go in, then of those that come out."""
        return tuple(size for part in self.key for size, _, _ in part)

    @cached_property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """Their dtypes."""
        return tuple(dtype for part in self.key for _, dtype, _ in part)


NOTES = np.dtype([("module", np.int32), ("known", np.int32), ("statistics", np.float32, 4)])
"""What a tape notes of a call (``CallNote`` in ``native/tape.c``): the module's index, what the call looks
like (its place in a list of those), and mean, standard deviation, minimum and maximum of its output, NaN
where they were not taken."""

Notes = npt.NDArray[np.void]
"""``[C]`` of :data:`NOTES`, in the order in which the calls returned."""


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
class HeldCalls:
    """Calls whose outputs are held to the end of the step, to be reduced together.

    Attributes:
        places: which call of the step each is.
        arguments: what went in.
        outputs: the first tensor that came out.
        versions: how often it had been written in place by then.
    """

    places: list[int] = field(default_factory=list)
    arguments: list[Any] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)

    def add(self, place: int, argument: Any, output: Tensor) -> bool:
        """Hold a call.

        Returns:
            Whether it is held; a tensor from inference mode is not, since it does not say whether it has been
            written to.
        """
        if output.is_inference():
            return False
        self.versions.append(output._version)
        self.places.append(place)
        self.arguments.append(argument)
        self.outputs.append(output)
        return True

    def only(self, some: Sequence[int]) -> HeldCalls:
        """Some of them, by position."""
        return HeldCalls(
            places=[self.places[at] for at in some],
            arguments=[self.arguments[at] for at in some],
            outputs=[self.outputs[at] for at in some],
            versions=[self.versions[at] for at in some],
        )


@dataclass
class CallNotes:
    """What was noted while the modules of a forward pass returned.

    Attributes:
        known: what calls look like.
        calls: ``[C]`` what the tape noted of each call.
        held: calls that are looked at together at the end.
        looks: what was seen of other outputs, by call.
        saved: outputs to be stored, by tensor name.
        errors: faults in noting.
    """

    known: list[KnownCall] = field(default_factory=list)
    calls: Notes = field(default_factory=lambda: np.empty(0, dtype=NOTES))
    held: HeldCalls = field(default_factory=HeldCalls)
    looks: dict[int, Look] = field(default_factory=dict)
    saved: dict[str, torch.Tensor] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
