"""Take all of a step's module calls that has to be taken before their outputs are let go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hooks.call_notes import CallNotes, HeldCalls, KnownCall, Notes
from hooks.statistics import NonFinite, describe_nonfinite, gather, group_alike, reduce_groups
from hooks.tensors import tensors_in


@dataclass(frozen=True)
class TakenCalls:
    """The module calls of a step, without any of their tensors.

    Attributes:
        known: what calls look like.
        calls: ``[C]`` the calls, in the order in which they returned.
        nonfinite: how many values are not finite, by call; of calls that were looked at closely.
        first_nonfinite: module index and details of the first call whose output was not finite.
    """

    known: list[KnownCall]
    calls: Notes
    nonfinite: Mapping[int, int]
    first_nonfinite: tuple[int, NonFinite] | None = None


class CallReducer:
    """Takes the calls of one step after the other.

    Args:
        volatile: modules (by index) whose outputs turn out to be overwritten in place are added to it.
    """

    def __init__(self, volatile: set[int]) -> None:
        self._volatile = volatile
        self._grouped_calls: list[KnownCall] = []
        self._groups: list[list[int]] = []

    def reduce(self, notes: CallNotes) -> TakenCalls:
        """Take statistics of the calls whose outputs are still held. On a GPU this waits for the device.

        Args:
            notes: what was noted.
        """
        if not notes.held.places and not notes.looks:
            return TakenCalls(notes.known, notes.calls, {})
        held, calls = self._whole(notes), notes.calls.copy()
        columns = calls["statistics"].T
        reduce_groups(columns, held.places, held.outputs, self._grouped(notes, held))
        gather(columns, [*notes.looks], [look.statistics for look in notes.looks.values()])
        counts, first = _count_nonfinite(notes, held, columns)
        return TakenCalls(notes.known, calls, counts, first)

    def _whole(self, notes: CallNotes) -> HeldCalls:
        """The held calls whose outputs are still what they were when the calls returned.

        The modules of others are remembered: from now on they are looked at in time.
        """
        held = notes.held
        pairs = zip(held.outputs, held.versions, strict=True)
        whole = [at for at, (output, version) in enumerate(pairs) if output._version == version]
        if len(whole) == len(held.places):
            return held
        gone = set(range(len(held.places))).difference(whole)
        self._volatile.update(int(notes.calls[held.places[at]]["module"]) for at in gone)
        return held.only(whole)

    def _grouped(self, notes: CallNotes, held: HeldCalls) -> list[list[int]]:
        """Outputs of the same looks; the grouping of one step serves the next where its calls are known."""
        known = [notes.known[place] for place in notes.calls["known"][held.places].tolist()]
        if known != self._grouped_calls:
            self._grouped_calls, self._groups = known, group_alike(held.outputs)
        return self._groups


def _count_nonfinite(
    notes: CallNotes, held: HeldCalls, columns: npt.NDArray[np.float32]
) -> tuple[dict[int, int], tuple[int, NonFinite] | None]:
    """Count per call that was looked at, and the first call in order of return: the innermost culprit."""
    taken = sorted([*held.places, *notes.looks])
    counts = dict.fromkeys(taken, 0)
    bad = np.asarray(taken, dtype=np.intp)[~np.isfinite(columns[2:, taken]).all(axis=0)].tolist()
    first: tuple[int, NonFinite] | None = None
    for call in bad:
        look = notes.looks.get(call)
        if look is None:
            at = held.places.index(call)
            found = describe_nonfinite(held.outputs[at], tensors_in(held.arguments[at]))
        else:
            # From a GPU's prefill only the extremes are known: at least one value, rows unknown.
            found = look.nonfinite or NonFinite(1, (), inputs_finite=first is None)
        counts[call] = found.count
        first = first or (int(notes.calls[call]["module"]), found)
    return counts, first
