"""What every module's calls look like, and the calls of a step as they were noted.

Decode steps repeat themselves, so most calls only have to be compared with the last one of their module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from hooks.shapebook import ShapeBook, shape_key
from hooks.statistics import NonFinite, is_reducible
from hooks.tensors import tensors_in

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
        statistics: ``[4, 1]`` on the tensor's device.
        nonfinite: details, where values are known not to be finite.
    """

    statistics: torch.Tensor
    nonfinite: NonFinite | None


@dataclass
class CallNotes:
    """What was noted while the modules of a forward pass returned.

    Attributes:
        early: whether outputs are looked at when they appear.
        returned: four values a call, in the order in which they returned: the module's index, what went
            in, what came out, and how often its first output had been written in place by then; or for a
            call that was looked at in time the index, its :class:`KnownCall`, its :class:`Look` (None if no
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


@dataclass(frozen=True)
class StepNotes:
    """The calls of a step, recognised.

    Attributes:
        calls: the calls in the order in which they returned.
        places: kept calls without a look.
        inputs: what went into each of these: a tensor or a list of them.
        outputs: what came out.
        written: those of them, by position, whose output was overwritten in place since the call.
        looks: what was seen of outputs that are not held, by call.
    """

    calls: list[KnownCall] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[torch.Tensor] = field(default_factory=list)
    written: set[int] = field(default_factory=set)
    looks: dict[int, Look] = field(default_factory=dict)

    def add(self, known: KnownCall, argument: Any, output: Any, version: int) -> None:
        """Add a call whose output is held; ``version`` is what it had when the call returned."""
        if known.kept:
            if output._version != version:
                self.written.add(len(self.places))
            self.places.append(len(self.calls))
            self.inputs.append(argument)
            self.outputs.append(output)
        self.calls.append(known)

    def add_look(self, known: KnownCall, look: Look | None) -> None:
        """Add a call that was looked at in time."""
        if look is not None:
            self.looks[len(self.calls)] = look
        self.calls.append(known)


class KnownCalls:
    """Recognises the calls of a model's modules.

    Args:
        modules: name and module of all that are registered.
        book: numbers shapes.
        statistics: whether statistics are taken.
    """

    def __init__(
        self, modules: Sequence[tuple[str, nn.Module]], book: ShapeBook, *, statistics: bool
    ) -> None:
        self._names = [name for name, _ in modules]
        self._book = book
        self._statistics = statistics
        self._buffers = [
            {buffer.untyped_storage().data_ptr() for buffer in module.buffers(recurse=False)}
            for _, module in modules
        ]
        self._last: list[KnownCall] = []
        # Equal sizes are one object for all modules: fewer objects for the processor's caches.
        self._sizes: dict[int, Sizes] = {}
        self.forget()

    def forget(self) -> None:
        """Look at every module anew: between two runs its dtype and device may have changed."""
        self._last[:] = [
            KnownCall(index, 0, kept=False, size_in=None, size_out=None, sizes=([], []))
            for index in range(len(self._buffers))
        ]

    def recognise(self, notes: CallNotes) -> StepNotes:
        """The calls of a step from what was noted; a fault becomes one of the errors of the notes."""
        found = StepNotes()
        for index, argument, output, version in _fours(notes.returned):
            known = self._last[index]
            if (
                type(output) is torch.Tensor
                and type(argument) is torch.Tensor
                and output.shape == known.size_out
                and argument.shape == known.size_in
            ):
                found.add(known, argument, output, version)
            elif type(argument) is KnownCall:
                found.add_look(argument, output)
            else:
                try:
                    inputs, outputs = tensors_in(argument), tensors_in(output)
                    known = self.find(index, inputs, outputs, plain=_is_plain(argument, output))
                    found.add(known, inputs, outputs[0] if outputs else None, version)
                except Exception as error:  # noqa: BLE001 - a fault in recording costs no other call
                    notes.add_fault(self._names[index], error)
        return found

    def find(
        self, index: int, inputs: list[torch.Tensor], outputs: list[torch.Tensor], *, plain: bool = False
    ) -> KnownCall:
        """What a call looks like.

        Args:
            index: the module's index.
            inputs: tensors that went in.
            outputs: tensors that came out.
            plain: whether one tensor went in and one came out, by themselves.
        """
        sizes = [tensor.shape for tensor in inputs], [tensor.shape for tensor in outputs]
        known = self._last[index]
        if known.number and known.sizes == sizes and (known.size_in is not None) is plain:
            return known
        number = self._book.number(shape_key(inputs, outputs))
        sizes = self._sizes.setdefault(number, sizes)
        self._last[index] = known = KnownCall(
            module=index,
            number=number,
            kept=self._is_activation(index, outputs),
            size_in=sizes[0][0] if plain else None,
            size_out=sizes[1][0] if plain else None,
            sizes=sizes,
        )
        return known

    def _is_activation(self, index: int, outputs: list[torch.Tensor]) -> bool:
        """Whether statistics are taken: a view of the module's own buffer (rotary table) is no activation."""
        if not self._statistics or not outputs or not is_reducible(outputs[0]):
            return False
        buffers = self._buffers[index]
        return not buffers or outputs[0].untyped_storage().data_ptr() not in buffers


def _fours(flat: list[Any]) -> Iterator[tuple[Any, Any, Any, Any]]:
    items = iter(flat)
    return zip(items, items, items, items, strict=True)


def _is_plain(argument: Any, output: Any) -> bool:
    return type(argument) is torch.Tensor and type(output) is torch.Tensor
