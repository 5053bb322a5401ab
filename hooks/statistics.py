"""Statistics of many tensors at once.

Reducing each module output by itself costs more than the model's own small operations. Outputs of one
shape are therefore stacked and reduced together: a handful of operations for a whole step. Those of a
prefill are large enough to be reduced one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hooks.tensors import to_host

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
    values = torch.stack(list(tensors)).reshape(len(tensors), -1)
    if values.dtype not in (torch.float32, torch.float64):
        values = values.float()
    low, high = values.amin(-1), values.amax(-1)
    mean = values.mean(-1)
    # Centred before squaring: the difference of two large squares would lose a small deviation.
    deviation = torch.linalg.vector_norm(values.sub_(mean.unsqueeze(-1)), dim=-1) / values.shape[-1] ** 0.5
    return torch.stack((mean, deviation, low, high)).float()


def reduce_one(tensor: torch.Tensor) -> Reduced:
    """The same of one tensor that is about to be let go: no copy of it, and half as many operations.

    Args:
        tensor: at least one element.
    """
    values = tensor.detach()
    if values.dtype not in (torch.float32, torch.float64):
        values = values.float()
    low, high = torch.aminmax(values)
    mean = values.mean()
    deviation = _centred_norm(values, mean) / values.numel() ** 0.5
    return Reduced(mean, deviation, low, high)


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


def _norm(values: torch.Tensor) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(values)
    return norm


def gather(columns: npt.NDArray[np.float32], places: Sequence[int], reduced: Sequence[Reduced]) -> None:
    """Write the statistics of tensors that were reduced one by one; waits once for each device.

    Args:
        columns: ``[4, C]`` to be filled: mean, std, low, high.
        places: the column of each.
        reduced: what :func:`reduce_one` made of them.
    """
    devices: dict[torch.device, list[int]] = {}
    for index, each in enumerate(reduced):
        devices.setdefault(each.mean.device, []).append(index)
    for members in devices.values():
        flat = torch.stack([value for index in members for value in reduced[index]])
        columns[:, [places[index] for index in members]] = to_host(flat).reshape(-1, 4).T


def reduce_groups(
    columns: npt.NDArray[np.float32],
    places: Sequence[int],
    tensors: Sequence[torch.Tensor],
    groups: Sequence[Sequence[int]],
) -> None:
    """Write the statistics of tensors of any shapes; waits for the device once a group.

    Args:
        columns: ``[4, C]`` to be filled: mean, std, low, high.
        places: the column of each tensor.
        tensors: the tensors.
        groups: what :func:`group_alike` made of them.
    """
    # All reductions are queued before the first result is fetched.
    reduced = [(group, reduce_stacked([tensors[index] for index in group])) for group in groups]
    for group, values in reduced:
        columns[:, [places[index] for index in group]] = to_host(values)


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
