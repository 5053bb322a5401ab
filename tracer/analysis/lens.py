"""The logit lens of a step: what each layer would have predicted, had it been the last one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracer.analysis.runs import RecordedRun, SavedTensors, check_row, chosen_token, require_captured, step_of
from tracer.errors import UnfitTensorsError, UsageError
from tracer.schema.arrays import F32, I32

LENS_TENSORS = ("lens/tokens", "lens/probabilities", "lens/rank", "lens/probability")
"""The saved tensors: ``[layers, batch, tokens]`` twice, ``[layers, batch]`` twice."""


@dataclass(frozen=True)
class LensLayer:
    """One layer's prediction at the last position.

    Attributes:
        layer: its number, from 0.
        tokens: the most probable tokens.
        probabilities: theirs, in the softmax of the raw logits.
        rank: rank of the token that the step chose, from 1.
        probability: probability of that token.
    """

    layer: int
    tokens: tuple[int, ...]
    probabilities: tuple[float, ...]
    rank: int
    probability: float


@dataclass(frozen=True)
class Lens:
    """The lens of one row of a step.

    Attributes:
        step: number of the step.
        row: row of the batch.
        chosen: the token that the step chose; None if its scores were not recorded.
        layers: one entry per layer, the last one being the model's own prediction.
    """

    step: int
    row: int
    chosen: int | None
    layers: tuple[LensLayer, ...]

    @property
    def settled(self) -> int | None:
        """First layer from which on the chosen token ranks first; None if it does not in the last one."""
        found = None
        for layer in reversed(self.layers):
            if layer.rank != 1:
                break
            found = layer.layer
        return found


@dataclass(frozen=True, eq=False)
class LensTensors:
    """The saved tensors of the lens of a step: L layers, B rows, T tokens.

    Attributes:
        tokens: ``[L, B, T]`` the most probable tokens, most probable first.
        probabilities: ``[L, B, T]`` theirs, in the softmax of the raw logits.
        rank: ``[L, B]`` of the token that the step chose, from 1.
        probability: ``[L, B]`` of that token.
    """

    tokens: I32
    probabilities: F32
    rank: I32
    probability: F32


def lens_tensors(saved: SavedTensors, number: int, rows: int) -> LensTensors:
    """The lens of all rows of a step.

    Args:
        saved: the tensors of the run.
        number: number of the step.
        rows: rows of the batch.

    Raises:
        UsageError: the lens was not recorded.
        UnfitTensorsError: the saved tensors do not fit together.
    """
    if not set(LENS_TENSORS) <= set(saved.tensor_names(number)):
        raise UsageError(f"the lens of step {number} was not recorded; record with --lens")
    tokens, shares, ranks, own = (np.asarray(saved.tensor(number, name)) for name in LENS_TENSORS)
    kinds = "".join(array.dtype.kind for array in (tokens, ranks, shares, own))
    fitting = tokens.shape == shares.shape and ranks.shape == own.shape == tokens.shape[:2]
    if tokens.ndim != 3 or not fitting or kinds != "iiff":
        raise UnfitTensorsError(f"the lens of step {number} is none: its tensors do not fit together")
    if tokens.shape[1] != rows:
        raise UnfitTensorsError(
            f"the lens of step {number} is none: it has {tokens.shape[1]} rows, the run {rows}"
        )
    return LensTensors(
        tokens.astype(np.int32), shares.astype(np.float32), ranks.astype(np.int32), own.astype(np.float32)
    )


def read_lens(run: RecordedRun, number: int, row: int = 0) -> Lens:
    """The lens of one row of a step.

    Args:
        run: the run.
        number: number of the step.
        row: row of the batch.

    Raises:
        UsageError: there is no such step or row, or the lens was not recorded.
    """
    check_row(run.header, row)
    step = step_of(run, number)
    require_captured(run, "lens", number)
    found = lens_tensors(run, number, len(run.header.prompt))
    layers = tuple(
        LensLayer(
            layer=layer,
            tokens=tuple(found.tokens[layer, row].tolist()),
            probabilities=tuple(found.probabilities[layer, row].tolist()),
            rank=int(found.rank[layer, row]),
            probability=float(found.probability[layer, row]),
        )
        for layer in range(len(found.tokens))
    )
    return Lens(number, row, chosen_token(step, row), layers)
