"""Take all of a step's module calls that has to be taken before their outputs are let go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hooks.call_notes import CallNotes, HeldCalls, KnownCall, Notes
from hooks.statistics import Columns, NonFinite, describe_nonfinite, gather, group_alike, reduce_groups
from hooks.tensors import tensors_in, to_host


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


@dataclass(frozen=True)
class QueuedCalls:
    """The module calls of a step whose statistics are still on their devices.

    Attributes:
        notes: what was noted of the calls.
        held: calls whose outputs are still what they were.
        columns: statistics of some of them.
    """

    notes: CallNotes
    held: HeldCalls
    columns: list[Columns]

    @property
    def results(self) -> list[Tensor]:
        """Small tensors for :meth:`taken` to have on the host."""
        return [columns.values for columns in self.columns]

    def taken(self, results: Sequence[Tensor]) -> TakenCalls:
        """The calls without their tensors. Where values are not finite, this looks closer at a held output.

        Args:
            results: copies of :attr:`results` on the host.
        """
        notes = self.notes
        if not results:
            return TakenCalls(notes.known, notes.calls, {})
        calls = notes.calls.copy()
        statistics = calls["statistics"].T
        for columns, values in zip(self.columns, results, strict=True):
            statistics[:, columns.places] = to_host(values)
        counts, first = _count_nonfinite(notes, self.held, statistics)
        return TakenCalls(notes.known, calls, counts, first)


class CallReducer:
    """Takes the calls of one step after the other.

    Args:
        overwritten: is told modules (by index) whose outputs turn out to be overwritten in place.
    """

    def __init__(self, overwritten: Callable[[int], None]) -> None:
        self._overwritten = overwritten
        self._grouped_calls: list[KnownCall] = []
        self._groups: list[list[int]] = []

    def queue(self, notes: CallNotes) -> QueuedCalls:
        """Take statistics of the calls whose outputs are still held; a GPU is not waited for.

        Args:
            notes: what was noted.
        """
        held = self._whole(notes)
        groups = self._grouped(notes, held) if held.places else []
        together = reduce_groups(held.places, held.outputs, groups)
        alone = gather({place: look.statistics for place, look in notes.looks.items()})
        return QueuedCalls(notes, held, [*together, *alone])

    def _whole(self, notes: CallNotes) -> HeldCalls:
        """The held calls whose outputs are still what they were when the calls returned.

        The modules of others are remembered: from now on they are looked at in time.
        """
        held = notes.held
        pairs = zip(held.outputs, held.versions, strict=True)
        whole = [at for at, (output, version) in enumerate(pairs) if output._version == version]
        if len(whole) == len(held.places):
            return held
        for at in set(range(len(held.places))).difference(whole):
            self._overwritten(int(notes.calls[held.places[at]]["module"]))
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
