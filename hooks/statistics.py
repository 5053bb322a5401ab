"""Statistics of many tensors at once.

Reducing each module output by itself costs more than the model's own small operations. Outputs of one
shape are therefore stacked and reduced together: a handful of operations for a whole step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hooks.tensors import to_host


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


class GroupedReducer:
    """Reduces tensors of any shapes, those of one shape together.

    The grouping of one step serves the next: in decode steps the shapes stay the same.
    """

    def __init__(self) -> None:
        self._known: tuple[list[int], list[int]] | None = None
        self._groups: list[list[int]] = []

    def reduce(self, tensors: Mapping[int, torch.Tensor], shapes: Sequence[int]) -> npt.NDArray[np.float32]:
        """Statistics by column; waits for the device once a group.

        Args:
            tensors: the tensors by column.
            shapes: per column a number that stands for shape, dtype and device.

        Returns:
            ``[4, columns]`` mean, std, low, high; NaN in the columns without a tensor.
        """
        found = np.full((4, len(shapes)), np.nan, dtype=np.float32)
        columns = [*tensors]
        key = columns, [shapes[column] for column in columns]
        if key != self._known:
            self._known, self._groups = key, _grouped(tensors)
        # All reductions are queued before the first result is fetched.
        reduced = [(group, reduce_stacked([tensors[column] for column in group])) for group in self._groups]
        for group, values in reduced:
            found[:, group] = to_host(values)
        return found


def _grouped(tensors: Mapping[int, torch.Tensor]) -> list[list[int]]:
    """Columns of tensors of one shape, dtype and device each."""
    groups: dict[tuple[torch.Size, torch.dtype, torch.device], list[int]] = {}
    for column, tensor in tensors.items():
        groups.setdefault((tensor.shape, tensor.dtype, tensor.device), []).append(column)
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
