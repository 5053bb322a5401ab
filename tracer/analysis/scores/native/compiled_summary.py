"""The score summary in compiled code, two passes over all stages together (``summary.c``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.compiled_parts import load
from tracer.schema.arrays import F32
from tracer.schema.columns import REMOVED_CAP

_native = load("tracer.analysis.scores.native._native")

available = _native is not None
"""Whether this installation has the compiled code."""

# The same layouts as in summary.h.
_STAGE = np.dtype(
    [(name, np.int32) for name in ("kept", "changed", "removed", "chosen_rank")]
    + [(name, np.float32) for name in ("mass_removed", "entropy", "chosen_scores")]
    + [("removed_tokens", np.int32, REMOVED_CAP)]
)
_ROW = np.dtype([("tokens", np.int32), ("candidates", np.int32), ("chosen_probability", np.float32)])


use_team: Callable[[int, int], None] | None = None if _native is None else _native.use_team
"""Takes the addresses of the functions by which work is shared out to the threads of torch
(``tracer/native/team.h``); None without compiled code."""


@dataclass(frozen=True)
class PackedSummary:
    """A summary as compiled code leaves it; whoever needs its columns, beside the generation, has them made.

    Attributes:
        packed: the numbers, as ``summary.h`` lays them out.
        stages: number of stages.
        rows: number of rows.
        width: room for recorded tokens.
    """

    packed: bytearray
    stages: int
    rows: int
    width: int

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The columns of :func:`tracer.analysis.scores.summary.summarise` by name, as views."""
        stages, rows, width = self.stages, self.rows, self.width
        parts = _split(
            self.packed,
            *((_STAGE, (stages, rows)), (_ROW, (rows,)), (np.dtype(np.int32), (rows, width))),
            *((np.dtype(np.float32), (stages, rows, width)), (np.dtype(np.float32), (rows, width))),
        )
        by_stage, by_row, tokens, scores, probabilities = parts
        longest = int(by_row["tokens"].max())
        return {
            **{name: by_stage[name] for name in _STAGE.names or ()},
            "tokens": tokens[:, :longest],
            "scores": scores[:, :, :longest],
            "probabilities": probabilities[:, :longest],
            "candidates": by_row["candidates"],
            "chosen_probability": by_row["chosen_probability"],
        }


def _split(packed: bytearray, *parts: tuple[np.dtype[Any], tuple[int, ...]]) -> list[npt.NDArray[Any]]:
    """Arrays of these dtypes and sizes that lie one after the other."""
    found, offset = [], 0
    for dtype, shape in parts:
        found.append(np.ndarray(shape, dtype, packed, offset))
        offset += found[-1].nbytes
    return found


def packed_summary(
    stages: Sequence[F32], chosen: npt.NDArray[np.integer[Any]], cap: int, *, shares: bool = False
) -> PackedSummary:
    """Summarise the score pipeline of one step; see :func:`tracer.analysis.scores.summary.summarise`.

    Args:
        stages: ``[B, V]`` for each stage.
        chosen: ``[B]`` the appended tokens.
        cap: largest length of each list of recorded tokens, at most V.
        shares: whether the calling thread runs operations of torch, whose other threads then take parts of
            the work (:func:`use_team`); the bits do not depend on it.
    """
    arrays = [np.ascontiguousarray(stage) for stage in stages]
    packed = _native.summarise(arrays, np.ascontiguousarray(chosen, dtype=np.int64), cap, shares)
    return PackedSummary(packed, len(arrays), arrays[0].shape[0], 2 * cap + 1)
