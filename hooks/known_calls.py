"""Recognise module calls: decode steps repeat themselves, so most look like the last one of their module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from hooks.call_notes import CallNotes, KnownCall, Sizes, StepNotes
from hooks.shapebook import ShapeBook, shape_key
from hooks.statistics import is_reducible
from hooks.tensors import first_tensor, sizes_in, tensors_in


class KnownCalls:
    """Recognises the calls of a model's modules.

    Args:
        modules: name and module of all that are registered.
        book: numbers shapes.
        statistics: whether statistics are taken.

    Attributes:
        last: by module, what its last call looked like.
    """

    def __init__(
        self, modules: Sequence[tuple[str, nn.Module]], book: ShapeBook, *, statistics: bool
    ) -> None:
        self.last: list[KnownCall] = []
        self._names = [name for name, _ in modules]
        self._book = book
        self._statistics = statistics
        self._buffers = [
            [_memory(buffer) for buffer in module.buffers(recurse=False)] for _, module in modules
        ]
        self._changes: dict[int, _Change] = {}
        self.forget()

    def forget(self) -> None:
        """Look at every module anew: between two runs its dtype and device may have changed."""
        self.last[:] = [
            KnownCall(index, 0, kept=False, size_in=None, size_out=None, sizes=([], []))
            for index in range(len(self._buffers))
        ]

    def begin(self) -> None:
        """A step begins; none of its calls has been looked at."""
        self._changes.clear()
        if self._book.crowded:
            self._book.keep({known.number for known in self.last})

    def recognise(self, notes: CallNotes) -> StepNotes:
        """The calls of a step from what was noted; a fault becomes one of the errors of the notes."""
        return self._with_outputs(notes) if self._statistics else StepNotes(self._calls_alone(notes))

    def _calls_alone(self, notes: CallNotes) -> list[KnownCall]:
        """The calls where no output is wanted: most were recognised when they returned."""
        returned = notes.returned
        calls, faulty = returned[1::4], []
        for at, argument in enumerate(calls):
            if type(argument) is not KnownCall:
                try:
                    calls[at] = self.find(returned[4 * at], argument, returned[4 * at + 2])
                except Exception as error:  # noqa: BLE001 - a fault in recording costs no other call
                    notes.add_fault(self._names[returned[4 * at]], error)
                    faulty.append(at)
        for at in reversed(faulty):
            del calls[at]
        return calls

    def _with_outputs(self, notes: CallNotes) -> StepNotes:
        """The calls, and the outputs that are reduced."""
        found, last = StepNotes(), self.last
        for index, argument, output, version in _fours(notes.returned):
            known, first = last[index], output
            if type(argument) is KnownCall:
                known = argument
                if output is not None:
                    found.looks[len(found.calls)] = output
            elif not (
                type(output) is Tensor
                and type(argument) is Tensor
                and output.shape == known.size_out
                and argument.shape == known.size_in
            ):
                try:
                    known = self.find(index, argument, output)
                    first = first_tensor(output) if known.kept else None
                except Exception as error:  # noqa: BLE001 - a fault in recording costs no other call
                    notes.add_fault(self._names[index], error)
                    continue
            if known.kept and known is not argument:
                if first._version != version:
                    found.written.add(len(found.places))
                found.places.append(len(found.calls))
                found.arguments.append(argument)
                found.outputs.append(first)
            found.calls.append(known)
        return found

    def find(self, index: int, argument: Any, output: Any) -> KnownCall:
        """What a call looks like.

        Args:
            index: the module's index.
            argument: its first positional argument, or all keyword arguments.
            output: what came out.
        """
        sizes, known = (sizes_in(argument), sizes_in(output)), self.last[index]
        plain = type(argument) is Tensor and type(output) is Tensor
        if known.number and known.sizes == sizes and (known.size_in is not None) is plain:
            return known
        number, sizes = self._number(known.number, sizes, argument, output)
        self.last[index] = known = KnownCall(
            module=index,
            number=number,
            kept=self._is_activation(index, output),
            size_in=sizes[0][0] if plain else None,
            size_out=sizes[1][0] if plain else None,
            sizes=sizes,
        )
        return known

    def _number(self, before: int, sizes: Sizes, argument: Any, output: Any) -> tuple[int, Sizes]:
        """Number of a shape that a module's last call, of the shape ``before``, did not have, and its sizes.

        Equal sizes are one object for all modules: fewer objects for the processor's caches.
        """
        # What changes with the sequence changes in all layers alike, so one of them tells for the others.
        change = self._changes.get(before)
        if change is not None and change.sizes == sizes:
            return change.after, change.sizes
        number = self._book.number(shape_key(tensors_in(argument), tensors_in(output)))
        if before:
            self._changes[before] = _Change(sizes, number)
        return number, sizes

    def _is_activation(self, index: int, output: Any) -> bool:
        """Whether statistics are taken: a view of the module's own buffer (rotary table) is no activation."""
        if not self._statistics:
            return False
        first = next(iter(tensors_in(output)), None)
        if first is None or not is_reducible(first):
            return False
        buffers = self._buffers[index]
        return not buffers or not any(start <= first.data_ptr() < end for start, end in buffers)


class _Change(NamedTuple):
    """What a call of this step looked like that looked different in the step before."""

    sizes: Sizes
    after: int


def _fours(flat: list[Any]) -> Iterator[tuple[Any, Any, Any, Any]]:
    items = iter(flat)
    return zip(items, items, items, items, strict=True)


def _memory(buffer: Tensor) -> tuple[int, int]:
    """Where a buffer's memory begins and ends."""
    storage = buffer.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()
