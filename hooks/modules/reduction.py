"""Reduce a step's module calls to what is recorded of them, before their outputs are released."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hooks.modules.call_notes import CallNotes, ChangedNote, DeferredCalls, Notes, as_notes
from hooks.modules.nonfinite import NonFinite, describe_nonfinite
from hooks.modules.pointer_table import KernelError, put_together
from hooks.modules.signatures import Signature
from hooks.modules.statistics import OnDevice, Statistics, Together, gather, is_freed, stack_by_device
from hooks.native import compiled
from hooks.tensors import tensors_in, to_host
from hooks.user_modes import outside_autocast
from tracer.schema.changes import ChangedOutput

Results = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int32]

_MANY = 256
"""After so many kinds of outputs, their numbers are given anew."""


@dataclass(frozen=True)
class ReducedCalls:
    """The module calls of a step, without any of their tensors.

    Attributes:
        signatures: of the calls, each once.
        noted: notes of the calls, in the order in which they returned
            (:data:`~hooks.modules.call_notes.NOTES`).
        reduced: results of calls whose statistics the tape did not take, as they came from their devices.
        nonfinite: calls in ``reduced`` whose outputs hold values that are not finite.
        lost: calls whose outputs were overwritten or freed before they were reduced.
    """

    signatures: list[Signature]
    noted: bytes
    reduced: Sequence[tuple[OnDevice, Results]] = ()
    nonfinite: Mapping[int, NonFinite] = field(default_factory=dict)
    lost: Sequence[int] = ()

    @property
    def calls(self) -> Notes:
        """``[C]`` notes of the calls; made on the thread that writes."""
        return as_notes(self.noted)

    @property
    def nbytes(self) -> int:
        """Size in memory, in bytes."""
        return len(self.noted) + sum(results.nbytes for _, results in self.reduced)

    def columns(self, numbers: list[int]) -> tuple[Numbers, Numbers, Statistics]:
        """Columns of the calls.

        Args:
            numbers: a number for each signature.

        Returns:
            ``[C]`` modules, ``[C]`` numbers of the signatures, and :meth:`statistics`.
        """
        columns = compiled.call_columns(self.calls, numbers)
        statistics = columns[2:].view(np.float32)
        for queued, results in self.reduced:
            statistics[:, queued.places] = queued.complete(results)
        if self.lost:
            statistics[:, self.lost] = np.nan
        return columns[0], columns[1], statistics

    def statistics(self) -> Statistics:
        """``[4, C]`` mean, standard deviation, minimum and maximum; NaN where none were taken."""
        return self.columns([0] * len(self.signatures))[2]


@dataclass(frozen=True)
class QueuedCalls:
    """The module calls of a step whose statistics are still on their devices.

    Attributes:
        notes: the notes of the calls.
        deferred: calls whose outputs are still what they were.
        queued: statistics of some of them.
        extremes: of deferred outputs when their calls returned, where the step looks twice.
        overwritten: called with each module (by index) whose output was written to since.
    """

    notes: CallNotes
    deferred: DeferredCalls
    queued: list[OnDevice]
    extremes: list[OnDevice] = field(default_factory=list)
    overwritten: Callable[[int], None] = lambda _: None

    @property
    def results(self) -> list[Tensor]:
        """Small tensors whose copies on the host :meth:`reduced` takes."""
        before = [note.statistics for note in self.notes.changed.values()]
        changed = [each for each in before if each is not None]
        return [*[each.values for each in (*self.queued, *self.extremes)], *changed]

    def changed(self, results: Sequence[Tensor]) -> tuple[ChangedOutput, ...]:
        """Outputs that forward hooks have changed, as they were before.

        Args:
            results: copies of :attr:`results` on the host.
        """
        if not self.notes.changed:
            return ()
        statistics = iter(results[len(self.queued) + len(self.extremes) :])
        return tuple(
            ChangedOutput(module=index, before=note.before)
            if note.statistics is None
            else _measured(index, note, next(statistics))
            for index, note in self.notes.changed.items()
        )

    def reduced(self, results: Sequence[Tensor]) -> ReducedCalls:
        """The calls without their tensors. Where values are not finite, the deferred output is searched.

        Args:
            results: copies of :attr:`results` on the host.
        """
        if not self.notes.deferred.places and not self.queued:  # the tape has taken all of them
            return ReducedCalls(self.notes.signatures, self.notes.noted)
        arrays = [to_host(each) for each in results[: len(self.queued)]]
        reduced = [*zip(self.queued, arrays, strict=True)]
        lost = sorted({*self.notes.deferred.places}.difference(self.deferred.places))
        calls = ReducedCalls(self.notes.signatures, self.notes.noted, reduced, lost=lost)
        if self.extremes:
            lost = sorted({*lost, *self._written_to(calls, results[len(self.queued) :])})
            calls = replace(calls, lost=lost)
        if all(np.isfinite(array).all() for array in arrays):
            return calls
        places = sorted({place for each in self.queued for place in each.places}.difference(calls.lost))
        found = _search_nonfinite(self.notes, self.deferred, places, calls.statistics())
        return replace(calls, nonfinite=found)

    def _written_to(self, calls: ReducedCalls, results: Sequence[Tensor]) -> Iterator[int]:
        """Deferred calls whose outputs have other extremes now than when they returned."""
        statistics, modules = calls.statistics(), calls.calls["module"]
        for before, values in zip(self.extremes, results, strict=False):
            now, then = statistics[2:, before.places].T, to_host(values)
            same = (now == then) | (np.isnan(now) & np.isnan(then))
            for place in np.asarray(before.places)[~same.all(axis=1)].tolist():
                self.overwritten(int(modules[place]))
                yield place


def _measured(index: int, note: ChangedNote, statistics: Tensor) -> ChangedOutput:
    mean, std, low, high = statistics.tolist()
    return ChangedOutput(module=index, before=note.before, mean=mean, std=std, low=low, high=high)


class CallReducer:
    """Reduces the calls of one step after the other.

    Args:
        overwritten: called with each module (by index) whose output turns out to be overwritten in place.
    """

    def __init__(self, overwritten: Callable[[int], None]) -> None:
        self._overwritten = overwritten
        self._output_specs = _OutputSpecs()
        self._planned_specs = b""
        self._plan: list[Together] = []

    @outside_autocast
    def queue(self, notes: CallNotes) -> QueuedCalls:
        """Queue the statistics of deferred outputs, without waiting for a GPU.

        Args:
            notes: the notes of the step's calls.
        """
        if not notes.deferred.places and not notes.early:
            return QueuedCalls(notes, notes.deferred, [])  # the tape has taken all of them
        deferred = self._unchanged(notes)
        queued = gather({place: result.statistics for place, result in notes.early.items()})
        if deferred.places:
            try:
                queued += self._reduce(notes, deferred)
            except KernelError:
                self._planned_specs = b""
                queued += self._reduce(notes, deferred)  # without the kernel
        extremes = {place: notes.extremes[place] for place in deferred.places if place in notes.extremes}
        return QueuedCalls(notes, deferred, queued, stack_by_device(extremes), self._overwritten)

    def _unchanged(self, notes: CallNotes) -> DeferredCalls:
        """The deferred calls whose outputs are still there and what they were when the calls returned.

        The modules of the others are reported: from now on their outputs are reduced at once.
        """
        deferred = notes.deferred
        current = [None if is_freed(output) else output._version for output in deferred.outputs]
        if current == deferred.versions:
            return deferred
        unchanged = [at for at, version in enumerate(deferred.versions) if current[at] == version]
        for at in set(range(len(current))).difference(unchanged):
            self._overwritten(int(notes.calls[deferred.places[at]]["module"]))
        return deferred.select(unchanged)

    def _reduce(self, notes: CallNotes, deferred: DeferredCalls) -> list[OnDevice]:
        """Reduce outputs together; the plan of one step serves the next whose outputs have the same specs."""
        outputs = deferred.outputs
        numbers = np.array([self._output_specs.number(each) for each in notes.signatures], dtype=np.int32)
        specs = numbers[notes.calls["signature"][deferred.places]].tobytes()
        if specs != self._planned_specs or not all(each.fits(outputs) for each in self._plan):
            self._planned_specs, self._plan = specs, put_together(outputs)
        return [
            OnDevice([deferred.places[at] for at in each.members], each.reduce(outputs), each)
            for each in self._plan
        ]


class _OutputSpecs:
    """Numbers for the specs of outputs; what goes into a call may change with every step."""

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self._next = 0

    def number(self, signature: Signature) -> int:
        """The number for the spec of the first tensor that comes out of a call."""
        spec = signature.specs[1][:1]
        found = self._numbers.get(spec)
        if found is None:
            if len(self._numbers) >= _MANY:  # outputs that grow with the sequence never come again
                self._numbers.clear()
            found = self._numbers[spec] = self._next
            self._next += 1
        return found


def _search_nonfinite(
    notes: CallNotes, deferred: DeferredCalls, places: list[int], statistics: Statistics
) -> dict[int, NonFinite]:
    """Details of the calls whose outputs hold values that are not finite, in order of return."""
    bad = np.asarray(places, dtype=np.intp)[~np.isfinite(statistics[2:, places]).all(axis=0)].tolist()
    found: dict[int, NonFinite] = {}
    for call in bad:
        early = notes.early.get(call)
        if early is None:
            at = deferred.places.index(call)
            output, inputs = deferred.outputs[at], tensors_in(deferred.arguments[at])
            found[call] = describe_nonfinite(output, inputs, notes.batch)
        else:
            # From a GPU's prefill only the extremes are known: nobody has looked at values and inputs.
            found[call] = early.nonfinite or NonFinite(None, (), inputs_finite=None)
    return found
