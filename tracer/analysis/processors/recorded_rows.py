"""Score rows from a record: exact for recorded tokens, bounded for all others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracer.analysis.processors.processor import Context, PlacedProcessor, ScoreRow
from tracer.schema.arrays import F32
from tracer.schema.columns import NO_TOKEN, ScoreColumns


def recorded_rows(
    columns: ScoreColumns,
    row: int,
    placed: Sequence[PlacedProcessor],
    *,
    vocab: int,
    cap: int,
    context: Context,
) -> list[ScoreRow]:
    """The row at every stage as far as it was recorded.

    The recorded tokens hold the ``cap`` highest raw logits and the ``cap`` highest final scores, so no other
    token exceeds the last of them. In between the bound follows from what the processors do. The counts of
    kept tokens say where nothing but recorded tokens is left.

    Args:
        columns: the recorded scores of the step.
        row: row of the batch.
        placed: the run's processors, one per stage after the first.
        vocab: size of the vocabulary.
        cap: largest length of the recorded lists.
        context: ids so far.
    """
    stages = columns.scores.shape[0]
    rows: list[ScoreRow] = []
    for stage in range(stages):
        scores = _dense(columns, row, stage, vocab)
        bound = np.inf
        if rows:
            bound = rows[-1].bound
            if columns.changed[stage, row]:
                bound = (
                    placed[stage - 1].processor.apply(rows[-1], context).bound
                    if stage <= len(placed)
                    else np.inf
                )
        if stage in (0, stages - 1):
            bound = min(bound, _lowest_of_top(scores, cap))
        rows.append(ScoreRow(scores, _known_bound(columns, row, stage, scores, bound)))
    return rows


def _dense(columns: ScoreColumns, row: int, stage: int, vocab: int) -> F32:
    scores = np.full(vocab, -np.inf, dtype=np.float32)
    tokens = columns.tokens[row]
    there = tokens != NO_TOKEN
    scores[tokens[there]] = columns.scores[stage, row, there]
    return scores


def _lowest_of_top(scores: F32, cap: int) -> float:
    """The ``cap``-th highest recorded score; ``-inf`` where fewer are left, so that no other token is."""
    finite = scores[scores > -np.inf]
    if cap < 1:
        return np.inf
    return -np.inf if finite.size < cap else float(np.partition(finite, finite.size - cap)[finite.size - cap])


def _known_bound(columns: ScoreColumns, row: int, stage: int, scores: F32, bound: float) -> float:
    if np.isnan(columns.chosen_scores[stage, row]):
        return np.inf  # NaN logits are in no list
    known = int(np.count_nonzero(scores > -np.inf))
    return -np.inf if known >= columns.kept[stage, row] else bound
