"""The score summary in compiled code, two passes over all stages together (``native/summary.c``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.compiled_parts import load
from tracer.schema.arrays import F32, I32
from tracer.schema.columns import REMOVED_CAP

_native = load("tracer.analysis.scores.native._native")

available = _native is not None
"""Whether this installation has the compiled code."""

# The same layouts as in summary.c.
_STAGE = np.dtype(
    [(name, np.int32) for name in ("kept", "changed", "removed", "chosen_rank")]
    + [(name, np.float32) for name in ("mass_removed", "entropy", "chosen_scores")]
    + [("removed_tokens", np.int32, REMOVED_CAP)]
)
_ROW = np.dtype([("tokens", np.int32), ("candidates", np.int32), ("chosen_probability", np.float32)])


def compiled_columns(scores: F32, chosen: I32, cap: int) -> dict[str, npt.NDArray[Any]]:
    """The columns of :func:`tracer.analysis.scores.summary.summarise` by name, computed by compiled code."""
    (stages, rows, vocabulary), width = scores.shape, 2 * cap + 1
    by_stage, by_row = np.empty((stages, rows), _STAGE), np.empty(rows, _ROW)
    tokens, token_scores = np.empty((rows, width), np.int32), np.empty((stages, rows, width), np.float32)
    probabilities = np.empty((rows, width), np.float32)
    longest = _native.summarise(
        *(stages, rows, vocabulary, cap, width),
        *(np.ascontiguousarray(scores), np.ascontiguousarray(chosen)),
        *(by_stage, by_row, tokens, token_scores, probabilities),
    )
    return {
        **{name: by_stage[name] for name in _STAGE.names or ()},
        "tokens": tokens[:, :longest],
        "scores": token_scores[:, :, :longest],
        "probabilities": probabilities[:, :longest],
        "candidates": by_row["candidates"],
        "chosen_probability": by_row["chosen_probability"],
    }
