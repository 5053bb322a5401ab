"""Number the shapes and the layouts of module calls, so that a step stores small integers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hooks.tensors import info_of
from tracer.schema.step import CallLayout, CallShape

_Key = tuple[tuple[torch.Size, torch.dtype, torch.device], ...]
_Sizes = list[torch.Size]


class ShapeBook:
    """Gives every distinct call shape and every distinct layout a number, from 1."""

    def __init__(self, modules: int) -> None:
        self._modules = modules
        self._shapes: dict[int, CallShape] = {}
        self._numbers: dict[tuple[_Key, _Key], int] = {}
        self._layouts: dict[tuple[int, ...], tuple[int, CallLayout]] = {}
        self._latest: dict[int, tuple[_Sizes, _Sizes, int]] = {}

    def shape(self, number: int) -> CallShape:
        """The call shape with that number."""
        return self._shapes[number]

    def number_at(self, place: int, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> int:
        """The number of a call's shape, looked up fast when it equals the last one at the same place.

        Args:
            place: position of the call in the step's layout.
            inputs: tensors that went in.
            outputs: tensors that came out.
        """
        sizes_in, sizes_out = [tensor.shape for tensor in inputs], [tensor.shape for tensor in outputs]
        latest = self._latest.get(place)
        if latest is not None and latest[0] == sizes_in and latest[1] == sizes_out:
            return latest[2]
        number = self.number(inputs, outputs)
        self._latest[place] = (sizes_in, sizes_out, number)
        return number

    def number(self, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> int:
        """The number of a call's shape.

        Args:
            inputs: tensors that went in.
            outputs: tensors that came out.
        """
        key = (_key(inputs), _key(outputs))
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbers) + 1
            self._shapes[number] = CallShape(
                inputs=tuple(info_of(tensor) for tensor in inputs),
                outputs=tuple(info_of(tensor) for tensor in outputs),
            )
        return number

    def layout(self, calls: Sequence[int]) -> tuple[int, CallLayout]:
        """The number and record of an order of calls.

        Args:
            calls: module index per call. A change forgets which shapes were last seen where.
        """
        key = tuple(calls)
        known = self._layouts.get(key)
        if known is None:
            missing = tuple(sorted(set(range(self._modules)).difference(key)))
            known = (len(self._layouts) + 1, CallLayout(modules=key, not_called=missing))
            self._layouts[key] = known
        return known


def _key(tensors: Sequence[torch.Tensor]) -> _Key:
    return tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors)
