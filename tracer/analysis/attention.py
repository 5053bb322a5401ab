"""Attention weights of a step: which positions each head attends to."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracer.analysis.runs import (
    RecordedRun,
    SavedTensors,
    check_row,
    history_of,
    leading_positions,
    require_captured,
    step_of,
)
from tracer.errors import UnfitTensorsError, UsageError

AttentionWeights = npt.NDArray[np.float32]

_NAME = re.compile(r"attention/(\d+)")


@dataclass(frozen=True, eq=False)
class LayerAttention:
    """What the last position of one row attends to in one layer.

    Attributes:
        layer: its number, from 0.
        weights: ``[heads, context]``; each head's sum is 1.
    """

    layer: int
    weights: AttentionWeights

    @property
    def mean(self) -> AttentionWeights:
        """``[context]`` mean over the heads."""
        mean: AttentionWeights = self.weights.mean(axis=0)
        return mean

    @property
    def entropy(self) -> AttentionWeights:
        """``[heads]`` entropy of each head in bits: 0 where it attends to a single position."""
        shares = np.where(self.weights > 0, self.weights, 1.0)
        entropy: AttentionWeights = -(shares * np.log2(shares)).sum(axis=-1)
        return entropy


@dataclass(frozen=True, eq=False)
class Attention:
    """What the last position of one row of a step attends to.

    Attributes:
        step: number of the step.
        row: row of the batch.
        context: token ids of the attended positions, oldest first; None for a position without a token id,
            and for a slot behind the sequence (an unused slot of a cache of fixed size).
        start: position of the first of them in the sequence.
        length: positions of the sequence.
        layers: layers whose weights were recorded, in order.
    """

    step: int
    row: int
    context: tuple[int | None, ...]
    start: int
    length: int
    layers: tuple[LayerAttention, ...]

    def layer(self, number: int) -> LayerAttention:
        """One layer.

        Raises:
            UsageError: its weights were not recorded.
        """
        found = next((layer for layer in self.layers if layer.layer == number), None)
        if found is None:
            known = ", ".join(str(layer.layer) for layer in self.layers)
            raise UsageError(
                f"layer {number} has no recorded attention in step {self.step}; these have: {known}"
            )
        return found


def read_attention(run: RecordedRun, number: int, row: int = 0) -> Attention:
    """The attention of one row's last position in a step.

    Args:
        run: the run.
        number: number of the step.
        row: row of the batch.

    Raises:
        UsageError: there is no such step or row, or no attention was recorded.
    """
    check_row(run.header, row)
    step_of(run, number)
    require_captured(run, "attention", number)
    weights = last_weights(run, number, len(run.header.prompt))
    history = [*[None] * leading_positions(run), *history_of(run, number, row).tolist()]
    widest = next(iter(weights.values())).shape[-1]
    start = first_position(len(history), widest)
    context = (*history[start:], *[None] * (widest - len(history) + start))
    layers = tuple(LayerAttention(layer, found[row]) for layer, found in weights.items())
    return Attention(number, row, context, start, len(history), layers)


def last_weights(saved: SavedTensors, number: int, rows: int) -> dict[int, AttentionWeights]:
    """Weights of the last position in each recorded layer, ``[rows, heads, context]``, in order of layers.

    A layer with a sliding window attends to fewer positions, the last ones; positions outside its window have
    weight 0.

    Args:
        saved: the tensors of the run.
        number: number of the step.
        rows: rows of the batch.

    Raises:
        UsageError: no attention was recorded.
        UnfitTensorsError: a saved tensor has another shape or dtype.
    """
    layers = sorted(int(found[1]) for name in saved.tensor_names(number) if (found := _NAME.fullmatch(name)))
    if not layers:
        raise UsageError(
            f"the attention of step {number} was not recorded; record with --capture tensors --save attention"
        )
    weights = {layer: _last(saved, number, layer, rows) for layer in layers}
    widest = max(found.shape[-1] for found in weights.values())
    return {
        layer: np.pad(found, ((0, 0), (0, 0), (widest - found.shape[-1], 0)))
        for layer, found in weights.items()
    }


def first_position(length: int, context: int) -> int:
    """The position in the sequence that the first weight belongs to.

    Args:
        length: length of the sequence.
        context: number of weights; more than there are positions with a cache of fixed size.
    """
    return max(0, length - context)


def _last(saved: SavedTensors, number: int, layer: int, rows: int) -> AttentionWeights:
    weights = np.asarray(saved.tensor(number, f"attention/{layer}"))
    if weights.dtype.kind != "f" or weights.ndim != 4 or weights.shape[0] != rows or 0 in weights.shape:
        raise UnfitTensorsError(
            f"attention/{layer} of step {number} is no attention: its shape is {list(weights.shape)}"
        )
    return weights[:, :, -1, :].astype(np.float32)
