"""Statistics of many tensors at once.

Reducing each module output by itself costs more than the model's own small operations. Outputs of one
shape are therefore stacked and reduced together: a handful of operations for a whole step. Those of a
prefill are large enough to be reduced one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

_PART = 1 << 22
"""Values that are centred at once."""


class Reduced(NamedTuple):
    """Statistics of one tensor, each a scalar on the tensor's device."""

    mean: torch.Tensor
    deviation: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor


def reduce_stacked(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean, population standard deviation, minimum and maximum of tensors of one shape, dtype and device.

    Half precision is reduced in float32. A NaN makes all four NaN; infinities show in minimum or maximum.

    Args:
        tensors: m tensors with at least one element each.

    Returns:
        ``[4, m]`` on the tensors' device: mean, std, low, high.
    """
    values = _wide(torch.stack(list(tensors)).reshape(len(tensors), -1))
    low, high = torch.aminmax(values, dim=-1)
    # On a GPU every operation costs its launch; on a CPU this one takes five times as long as the other two.
    if values.is_cuda:
        deviation, mean = torch.std_mean(values, dim=-1, correction=0)
    else:
        mean = values.mean(-1)
        # Centred before squaring: the difference of two large squares would lose a small deviation.
        deviation = _norm(values.sub_(mean.unsqueeze(-1)), dim=-1) / values.shape[-1] ** 0.5
    return torch.stack((mean, deviation, low, high)).float()


def reduce_one(tensor: torch.Tensor) -> Reduced:
    """The same of one tensor that is about to be let go: no copy of it, and half as many operations.

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


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def _centred_norm(values: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    if values.numel() <= _PART:
        return _norm(values - mean)
    # The logits of a long prompt take hundreds of megabytes; they are not needed twice at once.
    room = torch.empty(_PART, dtype=values.dtype, device=values.device)
    norms = [
        _norm(torch.sub(part, mean, out=room[: part.numel()]))
        for part in torch.split(values.reshape(-1), _PART)
    ]
    return _norm(torch.stack(norms))


def _norm(values: torch.Tensor, dim: int | None = None) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(values, dim=dim)
    return norm


@dataclass(frozen=True)
class Columns:
    """Statistics of some calls, on a device.

    Attributes:
        places: which calls of the step.
        values: ``[4, calls]`` mean, std, low, high.
    """

    places: list[int]
    values: torch.Tensor


def reduce_groups(
    places: Sequence[int], tensors: Sequence[torch.Tensor], groups: Sequence[Sequence[int]]
) -> list[Columns]:
    """Statistics of tensors of any shapes, together for each device; waits for nothing.

    Args:
        places: which call each tensor comes from.
        tensors: the tensors.
        groups: what :func:`group_alike` made of them.
    """
    devices: dict[torch.device, list[Columns]] = {}
    for group in groups:
        values = reduce_stacked([tensors[index] for index in group])
        devices.setdefault(values.device, []).append(Columns([places[index] for index in group], values))
    return [
        Columns(
            [place for columns in several for place in columns.places],
            torch.cat([columns.values for columns in several], dim=1),
        )
        for several in devices.values()
    ]


def gather(reduced: Mapping[int, Reduced]) -> list[Columns]:
    """Statistics of tensors that were reduced one by one, together for each device; waits for nothing.

    Args:
        reduced: what :func:`reduce_one` made of them, by call.
    """
    devices: dict[torch.device, list[int]] = {}
    for place, each in reduced.items():
        devices.setdefault(each.mean.device, []).append(place)
    return [
        Columns(places, torch.stack([value for place in places for value in reduced[place]]).reshape(-1, 4).T)
        for places in devices.values()
    ]


def group_alike(tensors: Sequence[torch.Tensor]) -> list[list[int]]:
    """Indices of tensors of one shape, dtype and device each, in order of appearance."""
    groups: dict[tuple[torch.Size, torch.dtype, torch.device], list[int]] = {}
    for index, tensor in enumerate(tensors):
        groups.setdefault((tensor.shape, tensor.dtype, tensor.device), []).append(index)
    return [*groups.values()]


def is_reducible(tensor: torch.Tensor) -> bool:
    """Whether statistics make sense: floating point with at least one element."""
    return tensor.is_floating_point() and tensor.numel() > 0 and not tensor.is_meta


@dataclass(frozen=True)
class NonFinite:
    """NaN or infinite values in one module output.

    Attributes:
        count: how many.
        rows: rows of the batch that hold them.
        inputs_finite: whether the inputs of the module were finite.
    """

    count: int
    rows: tuple[int, ...]
    inputs_finite: bool


def describe_nonfinite(output: torch.Tensor, inputs: Sequence[torch.Tensor]) -> NonFinite:
    """Look closely at a tensor known to hold non-finite values; waits for the device.

    Args:
        output: the module's output, rows first.
        inputs: the tensors that went into the module.
    """
    bad = ~torch.isfinite(output)
    by_row = bad.reshape(bad.shape[0], -1).any(-1) if bad.dim() > 1 else bad.any().reshape(1)
    return NonFinite(
        count=int(bad.sum()),
        rows=tuple(int(row) for row in by_row.nonzero().flatten()),
        inputs_finite=all(bool(torch.isfinite(value).all()) for value in inputs if value.is_floating_point()),
    )
