"""Signatures of module calls: the specs (shape, dtype, device) of what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import not_
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from hooks.modules.statistics import is_reducible, unreadable
from hooks.tensors import tensors_in

Specs: TypeAlias = tuple[tuple[tuple[int, ...], torch.dtype, torch.device], ...]
"""Shape, dtype and device of some tensors."""

InOut: TypeAlias = tuple[Specs, Specs]
"""Specs of the tensors that went into a call, and of those that came out."""

_NONE: Sequence[tuple[int, int]] = ()

_MANY = 128
"""After so many new signatures, those that no module had in its last call are pruned."""


@dataclass(frozen=True, eq=False)
class CallSignature:
    """The specs of a call's tensors; one object for all calls that have the same, compared by identity.

    Attributes:
        specs: of the tensors that go in, and of those that come out.
        wants_statistics: whether statistics are taken of the first tensor that comes out.
        unreadable: what that tensor is, if its values cannot be read.
    """

    specs: InOut
    wants_statistics: bool
    unreadable: str | None = None

    def with_sizes(self, sizes: tuple[tuple[int, ...], ...]) -> GrownSignature:
        """The signature of a call that differs in the sizes of what goes in; asked for by compiled code.

        Args:
            sizes: of the tensors that go in.
        """
        return GrownSignature(self, sizes)

    @cached_property
    def inputs(self) -> int:
        """How many tensors go in."""
        return len(self.specs[0])

    @cached_property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of the tensors that go in, then of those that come out."""
        return tuple(size for part in self.specs for size, _, _ in part)

    @cached_property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """Dtypes of the tensors that go in, then of those that come out."""
        return tuple(dtype for part in self.specs for _, dtype, _ in part)


class GrownSignature(NamedTuple):
    """A signature that differs from another one in the sizes of what goes in, as they grow with the sequence.

    Several are new in every step, between two calls of the model's modules. Its specs are made where they are
    asked for, on the thread that writes.

    Attributes:
        base: the other one.
        sizes: of the tensors that go in.
    """

    base: CallSignature
    sizes: tuple[tuple[int, ...], ...]

    @property
    def specs(self) -> InOut:
        """Of the tensors that go in, and of those that come out."""
        inputs, outputs = self.base.specs
        return tuple((size, *spec[1:]) for size, spec in zip(self.sizes, inputs, strict=True)), outputs

    @property
    def wants_statistics(self) -> bool:
        """Whether statistics are taken of the first tensor that comes out."""
        return self.base.wants_statistics

    @property
    def unreadable(self) -> str | None:
        """What that tensor is, if its values cannot be read."""
        return self.base.unreadable


Signature: TypeAlias = CallSignature | GrownSignature
"""The specs of a call's tensors, and whether statistics are taken."""


class SignatureTable:
    """The signatures of a model's calls, one object each.

    Args:
        modules: all registered modules.
        statistics: whether statistics are taken.
    """

    def __init__(self, modules: Sequence[nn.Module], *, statistics: bool) -> None:
        self._statistics = statistics
        self._buffers = [
            [_memory(buffer) for buffer in module.buffers(recurse=False)] if module._buffers else _NONE
            for module in modules
        ]
        self._table: dict[tuple[InOut, bool, str | None], CallSignature] = {}
        self._pruned_to = 0

    @property
    def crowded(self) -> bool:
        """Whether many signatures were added since the last :meth:`prune`."""
        return len(self._table) - self._pruned_to > _MANY

    def find(self, index: int, argument: Any, output: Any) -> CallSignature:
        """The signature of a call.

        Args:
            index: the module's index.
            argument: its first positional argument, or all keyword arguments.
            output: what came out.
        """
        inputs, outputs = tensors_in(argument), tensors_in(output)
        specs = (_specs(inputs), _specs(outputs))
        wants_statistics = self._is_activation(index, outputs)
        gap = unreadable(outputs[0]) if self._statistics and outputs and not wants_statistics else None
        key = (specs, wants_statistics, gap)
        found = self._table.get(key)
        if found is None:
            found = self._table[key] = CallSignature(*key)
        return found

    def depend_on_specs_alone(self) -> bytes:
        """A flag a module: whether its calls get their signature from the specs of their tensors alone."""
        return bytes(map(not_, self._buffers))

    def prune(self, used: set[Signature]) -> None:
        """Drop all other signatures: those whose shape grows with the sequence never come again.

        Args:
            used: those of the last calls of all modules.
        """
        self._table = {key: signature for key, signature in self._table.items() if signature in used}
        self._pruned_to = len(self._table)

    def _is_activation(self, index: int, outputs: Sequence[Tensor]) -> bool:
        """Whether statistics are taken: a view of the module's own buffer (rotary table) is no activation."""
        if not self._statistics or not outputs or not is_reducible(outputs[0]):
            return False
        buffers = self._buffers[index]
        return not buffers or not any(start <= outputs[0].data_ptr() < end for start, end in buffers)


def _specs(tensors: Sequence[Tensor]) -> Specs:
    return tuple([(tensor.shape, tensor.dtype, tensor.device) for tensor in tensors])


def _memory(buffer: Tensor) -> tuple[int, int]:
    """Where a buffer's memory begins and ends."""
    storage = buffer.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()
