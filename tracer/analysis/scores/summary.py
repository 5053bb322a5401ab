"""Summarise the score pipeline of a step: from whole score rows to the few numbers that explain a choice.

The input is every stage of the scores over the whole vocabulary, the output is what a step records of it
(:class:`~tracer.schema.columns.ScoreColumns`). There are two implementations, compiled and in NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.analysis.scores.native import compiled_summary
from tracer.analysis.scores.native.compiled_summary import PackedSummary, packed_summary
from tracer.analysis.scores.numpy_summary import Scores, numpy_columns
from tracer.schema.arrays import Bools
from tracer.schema.columns import ScoreColumns

Tokens = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class QuickSummary:
    """The summary of a step by compiled code, which does not know which rows had ended.

    Attributes:
        packed: all but the tokens themselves.
        chosen: ``[B]`` the appended token of each row.
    """

    packed: PackedSummary
    chosen: Tokens

    def columns(self, finished: Bools) -> ScoreColumns:
        """The columns of the step.

        Args:
            finished: ``[B]`` rows that had ended before.
        """
        return _columns(self.packed.columns(), self.chosen, finished)


def quick_summary(
    stages: Sequence[Scores], chosen: Tokens, cap: int, *, shares: bool = False
) -> QuickSummary | None:
    """Summarise quickly enough for a generation to wait for it.

    Args:
        stages: see :func:`summarise`.
        chosen: see there.
        cap: see there.
        shares: whether the calling thread runs operations of torch, whose other threads then help.

    Returns:
        The summary; None for scores other than float32, or without compiled code.
    """
    if not compiled_summary.available or stages[0].dtype != np.float32:
        return None
    packed = packed_summary(stages, chosen, min(cap, stages[0].shape[-1]), shares=shares)
    return QuickSummary(packed, chosen)


def summarise(stages: Sequence[Scores], chosen: Tokens, finished: Bools, cap: int) -> ScoreColumns:
    """Summarise the score pipeline of one step.

    Args:
        stages: ``[B, V]`` for each of the S stages, raw logits first, then after each processor and warper;
            float64 where the model has logits of that dtype, else float32.
        chosen: ``[B]`` the appended token of each row; :data:`~tracer.schema.columns.NO_TOKEN` while none is.
        finished: ``[B]`` rows that had ended before.
        cap: largest length of each list of recorded tokens.

    Returns:
        The columns of the step, B rows.
    """
    quick = quick_summary(stages, chosen, cap)
    if quick is not None:
        return quick.columns(finished)
    scores = np.stack(stages)
    columns = numpy_columns(scores, chosen.astype(np.int32), min(cap, scores.shape[-1]))
    return _columns(columns, chosen, finished)


def _columns(columns: Mapping[str, npt.NDArray[Any]], chosen: Tokens, finished: Bools) -> ScoreColumns:
    return ScoreColumns(**columns, chosen=chosen.astype(np.int32), finished=finished.astype(np.bool_))
