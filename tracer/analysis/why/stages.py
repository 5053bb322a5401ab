"""A row of scores at every stage, from saved logits if available, else from the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tracer.analysis.draw import Replayer
from tracer.analysis.processors.parsing import parse_processors
from tracer.analysis.processors.processor import Context, Opaque, PlacedProcessor, ScoreRow
from tracer.analysis.processors.recorded_rows import recorded_rows
from tracer.analysis.runs import scores_device, scores_dtype, whole_scores
from tracer.errors import UnsupportedError, UsageError
from tracer.schema.arrays import F32
from tracer.schema.columns import ScoreColumns
from tracer.schema.run import RunHeader
from tracer.schema.step import Step, StepHead


@dataclass(frozen=True, eq=False)
class RowStages:
    """What is known about one row of a step.

    Attributes:
        columns: the recorded scores.
        row: row of the batch.
        placed: processors in order.
        context: ids so far.
        rows: scores at every stage, raw logits first.
        full: whether they are computed from saved logits.
        notes: what a reader must know about them.
    """

    columns: ScoreColumns
    row: int
    placed: tuple[PlacedProcessor, ...]
    context: Context
    rows: tuple[ScoreRow, ...]
    full: bool
    notes: tuple[str, ...]

    @property
    def start(self) -> int:
        """First stage from which all processors can be repeated."""
        opaque = [
            stage
            for stage, placed in enumerate(self.placed, 1)
            if isinstance(placed.processor, Opaque) and self.columns.changed[stage, self.row]
        ]
        return max(opaque, default=0)


def row_stages(
    header: RunHeader,
    step: Step,
    row: int,
    context: Context,
    *,
    logits: F32 | None = None,
    replayer: Replayer | None = None,
) -> RowStages:
    """Collect what is known about one row of a step.

    Args:
        header: the run's header.
        step: the step.
        row: row of the batch.
        context: ids so far.
        logits: ``[V]`` saved raw logits of the row.
        replayer: runs transformers' own processors; without it, NumPy's are used.

    Raises:
        UsageError: the step's scores were not recorded.
    """
    columns = whole_scores(header, step)
    placed = parse_processors(header)
    cap, vocab = header.capture.candidates, step.head.vocab_size
    recorded = recorded_rows(columns, row, placed, vocab=vocab, cap=cap, context=context)
    if logits is None:
        return RowStages(columns, row, placed, context, tuple(recorded), full=False, notes=())
    if logits.shape != (vocab,):
        raise UsageError(f"the saved logits have shape {list(logits.shape)}, not [{vocab}]")
    repeated, notes = _repeat(header, columns, row, placed, context, step.head, logits, replayer)
    rows = [_better(ours, theirs) for ours, theirs in zip(repeated, recorded, strict=False)]
    rows += recorded[len(rows) :]
    notes += _disagreements(columns, row, placed, rows)
    return RowStages(columns, row, placed, context, tuple(rows), full=True, notes=tuple(notes))


def _repeat(
    header: RunHeader,
    columns: ScoreColumns,
    row: int,
    placed: Sequence[PlacedProcessor],
    context: Context,
    head: StepHead,
    logits: F32,
    replayer: Replayer | None,
) -> tuple[list[ScoreRow], list[str]]:
    """Stages from saved logits as far as they can be repeated."""
    rows, notes = [ScoreRow(logits)], list[str]()
    kind, device = scores_dtype(header, head), scores_device(head)
    if replayer is not None:
        try:
            theirs = replayer.process(placed, context, logits, device=device, dtype=kind)
            return [*rows, *(ScoreRow(scores) for scores in theirs)], notes
        except UnsupportedError as error:
            notes.append(f"Repeated in NumPy instead of transformers: {error}.")
    if kind != "float32":
        return rows, [
            *notes,
            f"Scores were {kind}; without torch the later stages are known from the record only.",
        ]
    for stage, each in enumerate(placed, 1):
        if isinstance(each.processor, Opaque) and not columns.changed[stage, row]:
            rows.append(rows[-1])
        else:
            rows.append(each.processor.apply(rows[-1], context))
    return rows, notes


def _better(repeated: ScoreRow, recorded: ScoreRow) -> ScoreRow:
    """The row with more information; the recorded one where it holds every token that is left."""
    if recorded.complete and not repeated.exact:
        return recorded
    return recorded if repeated.bound == np.inf else repeated


def _disagreements(
    columns: ScoreColumns, row: int, placed: Sequence[PlacedProcessor], rows: Sequence[ScoreRow]
) -> list[str]:
    """A sentence about the first stage at which recorded and repeated scores differ."""
    for stage, each in enumerate(rows):
        if not each.complete:
            continue
        tokens = columns.tokens[row]
        there = tokens >= 0
        recorded = columns.scores[stage, row, there]
        same = np.array_equal(each.scores[tokens[there]], recorded, equal_nan=True)
        if each.doubtful.size or (same and each.kept == columns.kept[stage, row]):
            continue
        name = placed[stage - 1].name if stage else "the raw logits"
        return [
            f"Saved logits and recorded scores differ at stage {stage} ({name}); the recorded ones are shown."
        ]
    return []
