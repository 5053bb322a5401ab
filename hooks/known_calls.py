"""Recognise module calls: decode steps repeat themselves, so most look like the last one of their module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from hooks.call_notes import CallNotes, KnownCall, Sizes, StepNotes
from hooks.shapebook import ShapeBook, shape_key
from hooks.statistics import is_reducible
from hooks.tensors import tensors_in


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
