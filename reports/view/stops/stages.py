"""What each processor of a list did to the scores of one row."""

from __future__ import annotations

from typing import Literal

import numpy as np

from reports.view.blocks import Stage, StageTable, TokenPath
from reports.view.glossary import processor_meaning, settings_text
from reports.view.stops.candidates import highest
from reports.view.stops.context import Context
from reports.view.text import plain
from reports.view.tokens import TokenView
from tracer.analysis.processors.roles import roles
from tracer.schema.columns import NO_TOKEN, ScoreColumns
from tracer.schema.run import ProcessorInfo

_TOP_TOKENS = 6
"""How many of the top tokens are followed through a list."""

_MOVED_TOKENS = 3
"""How many tokens are added that a processor moved most: warpers move all, processors only some."""

ListName = Literal["logits_processor", "logits_warper"]


def stage_table(context: Context, scores: ScoreColumns, list_name: ListName) -> StageTable | None:
    """The stages of one list; None when the list is empty.

    Args:
        context: step and row.
        scores: the step's scores.
        list_name: which list.
    """
    found = [
        (index, processor)
        for index, processor in enumerate(context.header.processors, 1)
        if processor.list_name == list_name and index < len(scores.scores)
    ]
    if not found:
        return None
    first, last = found[0][0], found[-1][0]
    return StageTable(
        row=context.row,
        stages=tuple(
            _stage(context, scores, index, number, processor)
            for number, (index, processor) in enumerate(found, 1)
        ),
        paths=_paths(context, scores, list_name, first - 1, last),
    )


def _stage(
    context: Context, scores: ScoreColumns, index: int, number: int, processor: ProcessorInfo
) -> Stage:
    row = context.row
    return Stage(
        number=number,
        class_name=plain(processor.class_name),
        settings=settings_text(processor.settings),
        meaning=processor_meaning(processor),
        vocabulary=context.step.head.vocab_size,
        changed=int(scores.changed[index, row]),
        removed=int(scores.removed[index, row]),
        mass_removed=float(scores.mass_removed[index, row]),
        kept_before=int(scores.kept[index - 1, row]),
        kept_after=int(scores.kept[index, row]),
        entropy_before=float(scores.entropy[index - 1, row]),
        entropy_after=float(scores.entropy[index, row]),
        removed_tokens=_removed_tokens(context, scores, index),
    )


def _removed_tokens(context: Context, scores: ScoreColumns, index: int) -> tuple[TokenView, ...]:
    """Removed tokens that are recorded: those whose score is known first, highest first, then by id."""
    row = context.row
    before, after = scores.scores[index - 1, row], scores.scores[index, row]
    known = [
        int(scores.tokens[row, column])
        for column in highest(scores, index - 1, row, before.size)
        if after[column] == -np.inf
    ]
    listed = [int(token) for token in scores.removed_tokens[index, row] if token != NO_TOKEN]
    return context.tokens(dict.fromkeys([*known, *listed]))


def _paths(
    context: Context, scores: ScoreColumns, list_name: ListName, before: int, last: int
) -> tuple[TokenPath, ...]:
    row = context.row
    chosen = int(scores.chosen[row])
    columns = highest(scores, before, row, _TOP_TOKENS)
    if list_name == "logits_processor":
        own = roles(context.header).count("processor")
        columns += _moved(scores, row, before, min(last, own), columns)
    columns += [
        int(column) for column in np.flatnonzero(scores.tokens[row] == chosen) if column not in columns
    ]
    return tuple(
        TokenPath(
            token=context.token(int(scores.tokens[row, column])),
            scores=tuple(float(value) for value in scores.scores[before : last + 1, row, column]),
            chosen=int(scores.tokens[row, column]) == chosen,
        )
        for column in columns
    )


def _moved(scores: ScoreColumns, row: int, before: int, last: int, known: list[int]) -> list[int]:
    """Columns of further recorded tokens that the stages moved, the furthest first."""
    start, end = scores.scores[before, row], scores.scores[last, row]
    found = np.flatnonzero((scores.tokens[row] != NO_TOKEN) & np.isfinite(start) & (start != end))
    far = found[np.argsort(-np.abs(end[found] - start[found]), kind="stable")]
    return [int(column) for column in far if column not in known][:_MOVED_TOKENS]
