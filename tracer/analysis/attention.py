"""Attention weights of a step: which positions each head looks at."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracer.analysis.draw_runs import RunLike, check_row, history_of, step_of
from tracer.errors import UsageError

Weights = npt.NDArray[np.float32]

_NAME = re.compile(r"attention/(\d+)")


@dataclass(frozen=True, eq=False)
class LayerAttention:
    """What the last position of one row looks at in one layer.

    Attributes:
        layer: its number, from 0.
        weights: ``[heads, context]``; each head's sum is 1.
    """

    layer: int
    weights: Weights

    @property
    def mean(self) -> Weights:
        """``[context]`` mean over the heads."""
        mean: Weights = self.weights.mean(axis=0)
        return mean

    @property
    def entropy(self) -> Weights:
        """``[heads]`` entropy of each head in bits: 0 where it looks at one position only."""
        shares = np.where(self.weights > 0, self.weights, 1.0)
        entropy: Weights = -(shares * np.log2(shares)).sum(axis=-1)
        return entropy


@dataclass(frozen=True, eq=False)
class Attention:
    """What the last position of one row of a step looks at.

    Attributes:
        step: number of the step.
        row: row of the batch.
        context: ids of the positions looked at, oldest first; None where a slot stands for no position of
            the sequence (an unused slot of a cache of fixed size).
        start: position of the first of them in the sequence.
        layers: layers whose weights were recorded, in order.
    """

    step: int
    row: int
    context: tuple[int | None, ...]
    start: int
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


def read_attention(run: RunLike, number: int, row: int = 0) -> Attention:
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
    places = sorted(int(found[1]) for name in run.tensor_names(number) if (found := _NAME.fullmatch(name)))
    if not places:
        raise UsageError(
            f"the attention of step {number} was not recorded; record with --capture tensors --save attention"
        )
    layers = tuple(LayerAttention(place, _last(run, number, place, row)) for place in places)
    slots = {layer.weights.shape[1] for layer in layers}
    history = history_of(run, number, row).tolist()
    # Layers with a window see fewer positions than the others; each is read by its own last ones.
    widest = max(slots)
    start = max(0, len(history) - widest)
    context = (*history[start:], *[None] * (widest - len(history) + start))
    return Attention(number, row, context, start, tuple(_widened(layer, widest) for layer in layers))


def _last(run: RunLike, number: int, layer: int, row: int) -> Weights:
    weights = np.asarray(run.tensor(number, f"attention/{layer}"))
    if weights.dtype.kind != "f" or weights.ndim != 4 or row >= weights.shape[0] or 0 in weights.shape:
        raise UsageError(
            f"attention/{layer} of step {number} is no attention: its shape is {list(weights.shape)}"
        )
    return weights[row, :, -1, :].astype(np.float32)


def _widened(layer: LayerAttention, width: int) -> LayerAttention:
    """The same layer over all positions that any layer sees; those out of its window have weight 0."""
    missing = width - layer.weights.shape[1]
    return LayerAttention(layer.layer, np.pad(layer.weights, ((0, 0), (missing, 0)))) if missing else layer
