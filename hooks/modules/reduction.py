"""Take all of a step's module calls that has to be taken before their outputs are let go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hooks.modules.call_notes import CallNotes, HeldCalls, KnownCall, Notes
from hooks.modules.statistics import Joined, NonFinite, OnDevice, Statistics, describe_nonfinite, gather, join
from hooks.tensors import tensors_in, to_host

Results = npt.NDArray[np.float32]

_MANY = 256
"""So many kinds of outputs are a reason to forget them."""


@dataclass(frozen=True)
class TakenCalls:
    """The module calls of a step, without any of their tensors.

    Attributes:
        known: what calls look like.
        calls: ``[C]`` the calls, in the order in which they returned.
        looked_at: results of calls that the tape took no statistics of, as they came from their devices.
        nonfinite: how many values are not finite, by call; of calls that were looked at closely.
        first_nonfinite: module index and details of the first call whose output was not finite.
    """

    known: list[KnownCall]
    calls: Notes
    looked_at: Sequence[tuple[OnDevice, Results]] = ()
    nonfinite: Mapping[int, int] = field(default_factory=dict)
    first_nonfinite: tuple[int, NonFinite] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of what was taken."""
        return self.calls.nbytes + sum(results.nbytes for _, results in self.looked_at)

    def statistics(self) -> Statistics:
        """``[4, C]`` mean, standard deviation, minimum and maximum; NaN where none were taken."""
        columns = np.ascontiguousarray(self.calls["statistics"].T)
        for queued, results in self.looked_at:
            columns[:, queued.places] = queued.complete(results)
        return columns


@dataclass(frozen=True)
class QueuedCalls:
    """The module calls of a step whose statistics are still on their devices.

    Attributes:
        notes: what was noted of the calls.
        held: calls whose outputs are still what they were.
        queued: statistics of some of them.
    """

    notes: CallNotes
    held: HeldCalls
    queued: list[OnDevice]

    @property
    def results(self) -> list[Tensor]:
        """Small tensors for :meth:`taken` to have on the host."""
        return [each.values for each in self.queued]

    def taken(self, results: Sequence[Tensor]) -> TakenCalls:
        """The calls without their tensors. Where values are not finite, this looks closer at a held output.

        Args:
            results: copies of :attr:`results` on the host.
        """
        arrays = [to_host(each) for each in results]
        looked_at = [*zip(self.queued, arrays, strict=True)]
        places = [place for each in self.queued for place in each.places]
        taken = TakenCalls(self.notes.known, self.notes.calls, looked_at, dict.fromkeys(places, 0))
        if all(np.isfinite(array).all() for array in arrays):
            return taken
        counts, first = _count_nonfinite(self.notes, self.held, places, taken.statistics())
        return replace(taken, nonfinite=counts, first_nonfinite=first)


class CallReducer:
    """Takes the calls of one step after the other.

    Args:
        overwritten: is told modules (by index) whose outputs turn out to be overwritten in place.
    """

    def __init__(self, overwritten: Callable[[int], None]) -> None:
        self._overwritten = overwritten
        self._looks = _OutputLooks()
        self._joined_looks = b""
        self._joined: list[Joined] = []

    def queue(self, notes: CallNotes) -> QueuedCalls:
        """Take statistics of the calls whose outputs are still held; a GPU is not waited for.

        Args:
            notes: what was noted.
        """
        held = self._whole(notes)
        joined = self._join(notes, held) if held.places else []
        queued = gather({place: look.statistics for place, look in notes.looks.items()})
        for each in joined:
            places = [held.places[index] for index in each.members]
            queued.append(OnDevice(places, each.reduce(held.outputs), each))
        return QueuedCalls(notes, held, queued)

    def _whole(self, notes: CallNotes) -> HeldCalls:
        """The held calls whose outputs are still what they were when the calls returned.

        The modules of others are remembered: from now on they are looked at in time.
        """
        held = notes.held
        versions = [output._version for output in held.outputs]
        if versions == held.versions:
            return held
        whole = [at for at, version in enumerate(held.versions) if versions[at] == version]
        for at in set(range(len(versions))).difference(whole):
            self._overwritten(int(notes.calls[held.places[at]]["module"]))
        return held.only(whole)

    def _join(self, notes: CallNotes, held: HeldCalls) -> list[Joined]:
        """How outputs are joined; what was found for one step serves the next whose outputs look the same."""
        numbers = np.array([self._looks.number(call) for call in notes.known], dtype=np.int32)
        looks = numbers[notes.calls["known"][held.places]].tobytes()
        if looks != self._joined_looks:
            self._joined_looks, self._joined = looks, join(held.outputs)
        return self._joined


class _OutputLooks:
    """Numbers what outputs look like; what goes into a call may change with every step."""

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self._next = 0

    def number(self, call: KnownCall) -> int:
        """The number of what the first tensor looks like that comes out of a call."""
        looks = call.key[1][:1]
        found = self._numbers.get(looks)
        if found is None:
            if len(self._numbers) >= _MANY:  # outputs that grow with the sequence never come again
                self._numbers.clear()
            found = self._numbers[looks] = self._next
            self._next += 1
        return found


def _count_nonfinite(
    notes: CallNotes, held: HeldCalls, places: list[int], statistics: Statistics
) -> tuple[dict[int, int], tuple[int, NonFinite] | None]:
    """Count per call that was looked at, and the first call in order of return: the innermost culprit."""
    taken = sorted(places)
    counts = dict.fromkeys(taken, 0)
    bad = np.asarray(taken, dtype=np.intp)[~np.isfinite(statistics[2:, taken]).all(axis=0)].tolist()
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
