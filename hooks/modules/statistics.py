"""Statistics of many tensors at once.

Reducing each module output by itself costs more than the model's own small operations. Outputs that differ
in their last dimension only are therefore joined along it and reduced together, in chunks that fit all of
them: a handful of operations for a whole step, whose small results are put together on the host. Those of a
long prefill are large enough to be reduced one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

_PART = 1 << 22
"""Most values that are centred at once."""

_CHUNK = 16
"""Tensors are not joined where the chunks that fit all of them would be smaller than this."""

_TOGETHER = 1 << 25
"""Most values that are joined."""

_MOST_EXPANDED = 1 << 28
"""Bytes; a tensor that takes more than its memory, by expansion, is not reduced beyond this."""

Statistics = npt.NDArray[np.float32]
"""``[4, n]`` mean, population standard deviation, minimum and maximum of n tensors.

Half precision is reduced in float32. A NaN makes all four NaN; infinities show in minimum or maximum."""


class Reduced(NamedTuple):
    """Statistics of one tensor, each a scalar on the tensor's device."""

    mean: torch.Tensor
    deviation: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor


@dataclass(frozen=True)
class Joined:
    """Tensors that are reduced together.

    Attributes:
        members: which of the tensors.
        chunk: values that are reduced to one, in the last dimension.
        counts: ``[n]`` chunks of each member in the last dimension.
    """

    members: list[int]
    chunk: int
    counts: npt.NDArray[np.intp]

    def fits(self, _tensors: Sequence[torch.Tensor]) -> bool:
        """Whether other tensors of the same specs can be reduced so."""
        return True

    def reduce(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Statistics of chunks of the tensors.

        Args:
            tensors: all of them, members or not; they have at least one element each.

        Returns:
            ``[4, rows, chunks]`` on the tensors' device: mean, std, low, high.
        """
        members = [tensors[index] for index in self.members]
        if not members[0].dim():
            members = [member.reshape(1) for member in members]
        values = torch.cat(members, dim=-1)
        values = _wide(values.detach().reshape(-1, int(self.counts.sum()), self.chunk))
        low, high = torch.aminmax(values, dim=-1)
        mean, deviation = _mean_and_deviation(values)
        return torch.stack((mean, deviation, low, high)).float()

    def complete(self, reduced: npt.NDArray[np.float32]) -> Statistics:
        """Statistics of whole tensors from those of their chunks.

        Args:
            reduced: a copy of the result of :meth:`reduce` on the host.
        """
        rows = reduced.shape[1]
        mean, deviation, low, high = reduced.transpose(0, 2, 1).reshape(4, -1)
        squares = deviation.astype(np.float64) ** 2 * self.chunk
        parts = np.stack((mean, squares, low, high))
        return statistics_of_parts(parts, np.full(len(mean), self.chunk), self.counts * rows)


class Together(Protocol):
    """Tensors that are reduced together."""

    @property
    def members(self) -> list[int]:
        """Which of the tensors."""

    def fits(self, _tensors: Sequence[torch.Tensor]) -> bool:
        """Whether other tensors of the same specs can be reduced so."""

    def reduce(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Statistics of parts of the tensors, on their device."""

    def complete(self, reduced: npt.NDArray[np.float32]) -> Statistics:
        """Statistics of whole tensors from those of their parts."""


def statistics_of_parts(
    parts: npt.NDArray[Any], sizes: npt.NDArray[np.int_], counts: npt.NDArray[np.int_]
) -> Statistics:
    """Statistics of whole tensors from those of their parts.

    Args:
        parts: ``[4, parts]`` mean, sum of the squares of what the values differ from it by, minimum and
            maximum; the parts of a tensor follow one another.
        sizes: ``[parts]`` values of each part.
        counts: ``[n]`` parts of each tensor.
    """
    firsts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    means, squares = parts[:2].astype(np.float64)
    values = np.add.reduceat(sizes, firsts)
    mean = np.add.reduceat(means * sizes, firsts) / values
    # Squares of what the parts differ from the whole by: those of the values themselves lose digits.
    with np.errstate(invalid="ignore"):  # infinities
        squares += sizes * (means - np.repeat(mean, counts)) ** 2
    deviation = np.sqrt(np.add.reduceat(squares, firsts) / values)
    low, high = np.minimum.reduceat(parts[2], firsts), np.maximum.reduceat(parts[3], firsts)
    return np.stack((mean, deviation, low, high)).astype(np.float32)


def join(tensors: Sequence[torch.Tensor], indexes: Iterable[int] | None = None) -> list[Joined]:
    """Put tensors together that can be reduced together: alike but for their last size.

    Args:
        tensors: at least one element each.
        indexes: those of them that are put together; None for all.
    """
    groups: dict[object, list[_Group]] = {}
    for index in range(len(tensors)) if indexes is None else indexes:
        tensor = tensors[index]
        alike = groups.setdefault((tensor.dim(), tensor.shape[:-1], tensor.dtype, tensor.device), [])
        size, values = (tensor.shape[-1] if tensor.dim() else 1), tensor.numel()
        group = next((group for group in alike if group.takes(size, values)), None)
        if group is None:
            group = _Group(size)
            alike.append(group)
        group.add(index, size, values)
    return [group.joined() for alike in groups.values() for group in alike]


class _Group:
    """Tensors that are to be joined."""

    def __init__(self, chunk: int) -> None:
        self._chunk = chunk
        self._values = 0
        self._members: list[int] = []
        self._sizes: list[int] = []

    def takes(self, size: int, values: int) -> bool:
        """Whether one more tensor can be joined: its last size, and how many values it has."""
        chunk = gcd(self._chunk, size)
        fits = chunk >= _CHUNK or size == self._chunk
        return fits and self._values + values <= _TOGETHER

    def add(self, index: int, size: int, values: int) -> None:
        """Join it."""
        self._members.append(index)
        self._sizes.append(size)
        self._chunk = gcd(self._chunk, size)
        self._values += values

    def joined(self) -> Joined:
        """The group."""
        return Joined(self._members, self._chunk, np.array(self._sizes, dtype=np.intp) // self._chunk)


def reduce_one(tensor: torch.Tensor) -> Reduced:
    """Statistics of one tensor that is about to be released, without a copy of it.

    Args:
        tensor: at least one element.
    """
    values = _wide(tensor.detach())
    low, high = torch.aminmax(values)
    if values.is_cuda:
        deviation, mean = torch.std_mean(values, correction=0)
    else:
        mean = values.mean()
        deviation = _centred_norm(values, mean) / values.numel() ** 0.5
    return Reduced(mean, deviation, low, high)


def extremes(tensor: torch.Tensor) -> torch.Tensor:
    """``[2]`` float32 minimum and maximum of a tensor, NaN if one of its values is; waits for nothing.

    Args:
        tensor: at least one element.
    """
    return torch.stack(torch.aminmax(_wide(tensor.detach()))).float()


def _mean_and_deviation(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Over the last dimension of values, which are overwritten."""
    # On a GPU every operation costs its launch; on a CPU this one takes five times as long as the other two.
    if values.is_cuda:
        deviation, mean = torch.std_mean(values, dim=-1, correction=0)
        return mean, deviation
    mean = values.mean(-1)
    # Centred before squaring: the difference of two large squares would lose a small deviation.
    return mean, _norm(values.sub_(mean.unsqueeze(-1)), dim=-1) / values.shape[-1] ** 0.5


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def _centred_norm(values: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    if values.numel() <= _PART:
        return _norm(values - mean)
    # The logits of a long prompt take hundreds of megabytes; they are not needed twice at once.
    buffer = torch.empty(_PART, dtype=values.dtype, device=values.device)
    norms = [
        _norm(torch.sub(part, mean, out=buffer[: part.numel()]))
        for part in torch.split(values.reshape(-1), _PART)
    ]
    return _norm(torch.stack(norms))


def _norm(values: torch.Tensor, dim: int | None = None) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(values, dim=dim)
    return norm


@dataclass(frozen=True)
class OnDevice:
    """Statistics of some calls before they are on the host.

    Attributes:
        places: which calls of the step.
        values: the result of :meth:`Together.reduce` for their outputs, or ``[n, 4]`` statistics of each.
        together: how they were put together; None where they were reduced one by one.
    """

    places: list[int]
    values: torch.Tensor
    together: Together | None = None

    def complete(self, values: npt.NDArray[np.float32]) -> Statistics:
        """Their statistics.

        Args:
            values: a copy of :attr:`values` on the host.
        """
        return values.T if self.together is None else self.together.complete(values)


def gather(reduced: Mapping[int, Reduced]) -> list[OnDevice]:
    """Collect statistics of tensors that were reduced one by one, per device; waits for nothing.

    Args:
        reduced: the result of :func:`reduce_one`, by call.
    """
    devices: dict[torch.device, list[int]] = {}
    for place, each in reduced.items():
        devices.setdefault(each.mean.device, []).append(place)
    return [
        OnDevice(places, torch.stack([value for place in places for value in reduced[place]]).view(-1, 4))
        for places in devices.values()
    ]


def stack_by_device(values: Mapping[int, torch.Tensor]) -> list[OnDevice]:
    """Collect small tensors of one size, per device; waits for nothing.

    Args:
        values: a tensor for each call.
    """
    devices: dict[torch.device, list[int]] = {}
    for place, each in values.items():
        devices.setdefault(each.device, []).append(place)
    return [OnDevice(places, torch.stack([values[at] for at in places])) for places in devices.values()]


def is_reducible(tensor: torch.Tensor) -> bool:
    """Whether statistics make sense and can be taken: floating point, at least one element, plain memory."""
    return tensor.is_floating_point() and bool(tensor.numel()) and unreadable(tensor) is None


def unreadable(tensor: torch.Tensor) -> str | None:
    """Why the values of a tensor cannot be read one by one; None where they can.

    Sparse, nested and packed layouts have none of their own memory for each, nor have wrappers such as
    DTensor; an expanded tensor may stand for more values than any memory holds.
    """
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.layout != torch.strided:
        return f"a tensor of layout {str(tensor.layout).removeprefix('torch.')}"
    if tensor.is_meta:
        return "a tensor without memory"
    value: object = tensor
    if is_traceable_wrapper_subclass(value):
        return f"a {type(tensor).__name__}"
    if tensor.nbytes > max(_MOST_EXPANDED, tensor.untyped_storage().nbytes()):
        return "a tensor expanded beyond its memory"
    return None


def is_freed(tensor: torch.Tensor) -> bool:
    """Whether a tensor's memory is gone: somebody has freed or shrunk its storage."""
    if tensor.is_contiguous():  # as nearly all are
        last = tensor.numel() - 1
    else:
        last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.untyped_storage().nbytes() < (tensor.storage_offset() + last + 1) * tensor.element_size()
