"""From whole score rows to the few numbers that explain a choice.

The input is every stage of the scores over the whole vocabulary, the output is what a step keeps of it
(:class:`~tracer.schema.step.ScoreColumns`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.analysis.scores import numpy_summary
from tracer.analysis.scores.native import compiled_summary
from tracer.schema.step import F32, I32, ScoreColumns


def is_quick(dtype: npt.DTypeLike) -> bool:
    """Whether scores of a kind are summarised by compiled code: quickly enough for a generation to wait for.

    Args:
        dtype: that of the scores.
    """
    return compiled_summary.available and dtype == np.float32


def summarise(scores: F32, chosen: I32, finished: npt.NDArray[np.bool_], cap: int) -> ScoreColumns:
    """Describe the way of the scores through all stages.

    Args:
        scores: ``[S, B, V]`` raw logits first, then after each processor and warper; float64 where the model
            has logits of that kind.
        chosen: ``[B]`` the appended token of each row; :data:`~tracer.schema.step.NO_TOKEN` while none is.
        finished: ``[B]`` rows that had ended before.
        cap: largest length of each list of recorded tokens.

    Returns:
        The columns of the step, B rows.
    """
    way = compiled_summary if is_quick(scores.dtype) else numpy_summary
    columns: dict[str, npt.NDArray[Any]] = way.summarise(
        scores, chosen.astype(np.int32), min(cap, scores.shape[-1])
    )
    return ScoreColumns(**columns, chosen=chosen.astype(np.int32), finished=finished.astype(np.bool_))
