"""Notes of a step's module calls, made while the modules return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hooks.modules.nonfinite import BatchLayout, NonFinite
from hooks.modules.signatures import Signature
from hooks.modules.statistics import Reduced
from tracer.schema.tensors import TensorInfo

NOTES = np.dtype([("module", np.int32), ("signature", np.int32), ("statistics", np.float32, 4)])
"""The note of a call (``CallNote`` in ``native/tape.c``): the module's index, the signature's place in the
step's list of signatures, and mean, standard deviation, minimum and maximum of the output, NaN where they
were not taken."""

Notes: TypeAlias = npt.NDArray[np.void]
"""``[C]`` of :data:`NOTES`, in the order in which the calls returned."""


def as_notes(noted: bytes) -> Notes:
    """What a tape has noted as an array: to make one between two forward passes takes a while.

    Args:
        noted: the notes one after the other.
    """
    notes: Notes = np.frombuffer(noted, dtype=NOTES)
    return notes


@dataclass(frozen=True)
class EarlyResult:
    """Statistics of an output that was reduced when its call returned.

    Attributes:
        statistics: of its values.
        nonfinite: details, where values are known not to be finite.
    """

    statistics: Reduced
    nonfinite: NonFinite | None


class ChangedNote(NamedTuple):
    """An output that a forward hook has changed, as it was before.

    Attributes:
        before: the first tensor of it; None where it could not be looked at.
        statistics: ``[4]`` mean, std, low and high on the tensor's device; None where they were not taken.
    """

    before: TensorInfo | None
    statistics: Tensor | None


@dataclass(slots=True)
class DeferredCalls:
    """Calls whose outputs are reduced together at the end of the step.

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
        """Defer a call.

        Args:
            place: which call of the step it is.
            argument: what went in.
            output: the first tensor that came out.

        Returns:
            Whether it is deferred; a tensor from inference mode is not, since it has no version that would
            tell whether it was written to.
        """
        if output.is_inference():
            return False
        self.versions.append(output._version)
        self.places.append(place)
        self.arguments.append(argument)
        self.outputs.append(output)
        return True

    def select(self, positions: Sequence[int]) -> DeferredCalls:
        """Some of the calls, by their position in these lists."""
        return DeferredCalls(
            places=[self.places[at] for at in positions],
            arguments=[self.arguments[at] for at in positions],
            outputs=[self.outputs[at] for at in positions],
            versions=[self.versions[at] for at in positions],
        )


@dataclass(slots=True)
class CallNotes:
    """Everything noted while the modules of a forward pass returned.

    Attributes:
        signatures: of the step's calls, each once.
        noted: the tape's note of each call, one after the other (:data:`NOTES`).
        deferred: calls that are reduced together at the end of the step.
        extremes: ``[2]`` minimum and maximum of deferred outputs when their calls returned, by call; only in
            a step that looks twice.
        early: results of outputs that were reduced at once, by call.
        saved: outputs to be stored, by tensor name.
        changed: outputs that forward hooks have changed, by module.
        errors: faults in recording.
        batch: where the rows of the batch are, if that is known.
    """

    signatures: list[Signature] = field(default_factory=list)
    noted: bytes = b""
    deferred: DeferredCalls = field(default_factory=DeferredCalls)
    extremes: dict[int, Tensor] = field(default_factory=dict)
    early: dict[int, EarlyResult] = field(default_factory=dict)
    saved: dict[str, torch.Tensor] = field(default_factory=dict)
    changed: dict[int, ChangedNote] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    batch: BatchLayout | None = None

    @property
    def calls(self) -> Notes:
        """``[C]`` the tape's note of each call."""
        return as_notes(self.noted)
