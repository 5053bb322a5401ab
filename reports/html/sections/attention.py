"""Attention of a run: one section for each step, with all weights in 8 bits and the highest ones exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from reports.html.pack import Section
from reports.html.sections.probed_capture import CapturedData
from reports.recorded_run import Run
from reports.view.questions.attention import TOP_POSITIONS
from tracer.analysis.attention import AttentionWeights, LayerAttention, first_position, last_weights
from tracer.errors import UsageError
from tracer.schema.run import TokenText
from tracer.schema.step import Step

ATTENTION_BUDGET = 1 << 22
"""Most bytes of attention of a run in a page, uncompressed; beyond it, the page has every n-th step's."""

COLUMNS = 512
"""Most columns of a heat map; in a longer context a column holds the sum of several positions."""

NOT_FINITE = 255
"""Stands for NaN in 8 bits."""

_EXACT = 8 * (TOP_POSITIONS + 1)
"""Approximate bytes of the exact figures of one layer and head."""


class AttentionData(CapturedData):
    """The attention of the last position of every step."""

    capture = "attention"

    def __init__(self, prefix: str, run: Run, tokens: Mapping[int, TokenText]) -> None:
        super().__init__(prefix, run, tokens)
        self._collected: dict[int, Section] = {}

    def sections(self) -> Iterator[Section]:
        """An index section, then one for each collected step; none where no attention was asked for."""
        if not self.asked:
            return
        metadata = {"stride": self.stride, "faults": self.faults}
        yield Section(self.name, metadata, {"steps": np.array(list(self._collected), dtype=np.int32)})
        yield from self._collected.values()

    def collect(self, step: Step) -> None:
        """Collect the attention of a step."""
        weights = last_weights(self.run, step.number, step.rows)
        if len({found.shape for found in weights.values()}) > 1:
            raise UsageError(f"the layers of step {step.number} have different numbers of heads")
        whole, start = used(np.stack(list(weights.values())), step.head.inputs.sequence_length)
        lines, context = whole[..., 0].size, whole.shape[-1]
        columns = min(COLUMNS, max(1, ATTENTION_BUDGET // lines))
        steps = len(self.run.steps)
        if not self._collected:
            size = lines * (min(context + steps, columns) + _EXACT)
            self.stride = max(1, ceil(steps * size / ATTENTION_BUDGET))
        width = ceil(context / columns)
        metadata = {"start": start, "context": context, "width": width, "layers": list(weights)}
        arrays = {"weights": in_8_bits(binned(whole, width)), **_exact(weights, start)}
        self._collected[step.number] = Section(f"{self.name}-{step.number}", metadata, arrays)


def used(weights: AttentionWeights, length: int) -> tuple[AttentionWeights, int]:
    """Weights without the unused slots at the end of a cache of fixed size, and the first one's position.

    Args:
        weights: ``[…, context]``.
        length: length of the sequence; slots beyond it stay if any weight on them is not 0.
    """
    start = first_position(length, weights.shape[-1])
    beyond = weights[..., length - start :]
    return (weights if beyond.any() else weights[..., : length - start]), start


def binned(weights: AttentionWeights, width: int) -> AttentionWeights:
    """Sums over ``width`` neighbouring positions each, ``[…, ceil(context / width)]``.

    Args:
        weights: ``[…, context]``.
        width: positions in a sum; the last sum may have fewer.
    """
    if width == 1:
        return weights
    sums: AttentionWeights = np.add.reduceat(weights, np.arange(0, weights.shape[-1], width), axis=-1)
    return sums


def in_8_bits(weights: AttentionWeights) -> npt.NDArray[np.uint8]:
    """Weights from 0 to 1 as 0 to 254, by square root, so that small ones keep their differences.

    ``(stored / 254) ** 2`` is within ``0.004 * sqrt(weight) + 0.000004`` of the weight.

    Args:
        weights: any shape; what is not finite becomes :data:`NOT_FINITE`.
    """
    finite = np.isfinite(weights)
    roots = np.sqrt(np.clip(np.where(finite, weights, 0), 0, 1))
    return np.where(finite, np.rint(254 * roots), NOT_FINITE).astype(np.uint8)


def _exact(weights: Mapping[int, AttentionWeights], start: int) -> dict[str, npt.NDArray[Any]]:
    """The figures that ``trace-generate attention`` prints: for the mean over heads, then for each head.

    ``positions`` and ``highest`` are ``[layers, rows, 1 + heads, top]``, ``entropy``
    ``[layers, rows, 1 + heads]`` in bits, that of the mean being the mean of the heads'.
    """
    seen = [[LayerAttention(layer, row) for row in rows] for layer, rows in weights.items()]
    lines = np.array([[np.vstack([each.mean, each.weights]) for each in rows] for rows in seen])
    entropy = [[[each.entropy.mean(), *each.entropy] for each in rows] for rows in seen]
    order = np.argsort(-lines, axis=-1, kind="stable")[..., :TOP_POSITIONS]
    return {
        "positions": (order + start).astype(np.int32),
        "highest": np.take_along_axis(lines, order, axis=-1),
        "entropy": np.array(entropy, dtype=np.float32),
    }
