"""Summarise the score pipeline of a step: from whole score rows to the few numbers that explain a choice.

The input is every stage of the scores over the whole vocabulary, the output is what a step records of it
(:class:`~tracer.schema.columns.ScoreColumns`). There are two implementations, compiled and in NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.analysis.scores.native import compiled_summary
from tracer.analysis.scores.numpy_summary import numpy_columns
from tracer.schema.arrays import F32, I32, Bools
from tracer.schema.columns import ScoreColumns


def is_quick(dtype: npt.DTypeLike) -> bool:
    """Whether compiled code summarises scores of a dtype, quickly enough for a generation to wait for it.

    Args:
        dtype: dtype of the scores.
    """
    return compiled_summary.available and dtype == np.float32


def summarise(scores: F32, chosen: I32, finished: Bools, cap: int) -> ScoreColumns:
    """Summarise the score pipeline of one step.

    Args:
        scores: ``[S, B, V]`` raw logits first, then after each processor and warper; float64 where the model
            has logits of that dtype.
        chosen: ``[B]`` the appended token of each row; :data:`~tracer.schema.columns.NO_TOKEN` while none is.
        finished: ``[B]`` rows that had ended before.
        cap: largest length of each list of recorded tokens.

    Returns:
        The columns of the step, B rows.
    """
    summarised = compiled_summary.compiled_columns if is_quick(scores.dtype) else numpy_columns
    tokens = chosen.astype(np.int32)
    columns: dict[str, npt.NDArray[Any]] = summarised(scores, tokens, min(cap, scores.shape[-1]))
    return ScoreColumns(**columns, chosen=tokens, finished=finished.astype(np.bool_))
