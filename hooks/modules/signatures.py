"""What the calls of a model's modules look like, told once for all calls that look alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hooks.modules.call_notes import KnownCall, ShapeKey
from hooks.modules.statistics import is_reducible
from hooks.tensors import tensors_in

_MANY = 128
"""So many new looks are a reason to forget those that no module had in its last call."""


class KnownCalls:
    """Says what calls look like.

    Args:
        modules: all that are registered.
        statistics: whether statistics are taken.
    """

    def __init__(self, modules: Sequence[nn.Module], *, statistics: bool) -> None:
        self._statistics = statistics
        self._buffers = [[_memory(buffer) for buffer in module.buffers(recurse=False)] for module in modules]
        self._known: dict[tuple[ShapeKey, bool], KnownCall] = {}
        self._kept = 0

    @property
    def crowded(self) -> bool:
        """Whether there have been many new ones since the last :meth:`keep`."""
        return len(self._known) - self._kept > _MANY

    def find(self, index: int, argument: Any, output: Any) -> KnownCall:
        """What a call looks like.

        Args:
            index: the module's index.
            argument: its first positional argument, or all keyword arguments.
            output: what came out.
        """
        inputs, outputs = tensors_in(argument), tensors_in(output)
        key = (_looks(inputs), _looks(outputs))
        kept = self._is_activation(index, outputs)
        known = self._known.get((key, kept))
        if known is None:
            known = self._known[key, kept] = KnownCall(key, kept)
        return known

    def depends_on_looks(self, index: int) -> bool:
        """Whether nothing but what a call looks like decides what :meth:`find` says of it.

        Args:
            index: the module's index.
        """
        return not self._buffers[index]

    def keep(self, used: set[KnownCall]) -> None:
        """Forget all other calls: those whose shape grows with the sequence never come again.

        Args:
            used: the last calls of all modules.
        """
        self._known = {key: known for key, known in self._known.items() if known in used}
        self._kept = len(self._known)

    def _is_activation(self, index: int, outputs: Sequence[Tensor]) -> bool:
        """Whether statistics are taken: a view of the module's own buffer (rotary table) is no activation."""
        if not self._statistics or not outputs or not is_reducible(outputs[0]):
            return False
        buffers = self._buffers[index]
        return not buffers or not any(start <= outputs[0].data_ptr() < end for start, end in buffers)


def _looks(tensors: Sequence[Tensor]) -> tuple[tuple[torch.Size, torch.dtype, torch.device], ...]:
    return tuple([(tensor.shape, tensor.dtype, tensor.device) for tensor in tensors])


def _memory(buffer: Tensor) -> tuple[int, int]:
    """Where a buffer's memory begins and ends."""
    storage = buffer.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()
