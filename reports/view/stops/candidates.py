"""Candidate lists: the tokens with the highest scores of one row."""

from __future__ import annotations

import numpy as np

from reports.view.blocks import CandidateList, CandidateRow
from reports.view.stops.context import Context
from tracer.schema.columns import NO_TOKEN, ScoreColumns

_RAW_LOGITS = 10
"""How many of the highest scores before any processor are listed."""


def candidate_list(context: Context, scores: ScoreColumns) -> CandidateList:
    """What is left after all processors, most probable first.

    Args:
        context: step and row.
        scores: the step's scores.
    """
    row = context.row
    return CandidateList(
        row=row,
        title="candidates",
        first=context.first_scores.one,
        rows=candidate_rows(context, scores, row),
        total=int(scores.candidates[row]),
        vocabulary=context.step.head.vocab_size,
        entropy=float(scores.entropy[-1, row]),
    )


def candidate_rows(context: Context, scores: ScoreColumns, row: int) -> tuple[CandidateRow, ...]:
    """The recorded candidates of a row, most probable first.

    Args:
        context: the step.
        scores: the step's scores.
        row: row of the batch.
    """
    chosen = int(scores.chosen[row])
    return tuple(
        CandidateRow(
            rank=rank,
            token=context.token(candidate.token, row),
            raw=candidate.raw,
            score=candidate.score,
            probability=candidate.probability,
            chosen=candidate.token == chosen,
        )
        for rank, candidate in enumerate(context.step.candidates_of(row), 1)
    )


def raw_list(context: Context, scores: ScoreColumns) -> CandidateList:
    """The highest scores before any processor.

    Args:
        context: step and row.
        scores: the step's scores.
    """
    row = context.row
    raw = scores.scores[0, row]
    return CandidateList(
        row=row,
        title=f"highest {context.first_scores.many}",
        first=context.first_scores.one,
        rows=tuple(
            CandidateRow(rank, context.token(int(scores.tokens[row, index])), float(raw[index]))
            for rank, index in enumerate(highest(scores, 0, row, _RAW_LOGITS), 1)
        ),
        total=int(scores.kept[0, row]),
        vocabulary=context.step.head.vocab_size,
        entropy=float(scores.entropy[0, row]),
    )


def highest(scores: ScoreColumns, stage: int, row: int, count: int) -> list[int]:
    """Columns of the recorded tokens with the highest scores at a stage, highest first.

    Args:
        scores: the step's scores.
        stage: 0 for the raw logits, ``i`` after processor ``i``.
        row: row of the batch.
        count: how many at most; removed tokens are never among them.
    """
    values = scores.scores[stage, row]
    known = np.flatnonzero((scores.tokens[row] != NO_TOKEN) & (values > -np.inf))
    order = np.argsort(-values[known], kind="stable")
    return [int(index) for index in known[order[:count]]]
