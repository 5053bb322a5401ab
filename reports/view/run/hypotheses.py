"""The hypotheses of a beam search: which were kept, which are returned, and what decided."""

from __future__ import annotations

from collections.abc import Iterator

from reports.view.blocks import FigureTable, Note
from reports.view.figures import score
from reports.view.stops.beams import hypothesis_table
from tracer.analysis.beams import kept, margin, turns
from tracer.schema.beams import BeamEnd, BeamOutcome


def hypothesis_tables(end: BeamEnd | None) -> tuple[FigureTable, ...]:
    """A table for each row of the batch.

    Args:
        end: the end of the search; None for a run without one.
    """
    if end is None:
        return ()
    penalty, group = end.length_penalty, end.group if end.groups > 1 else None
    return tuple(
        hypothesis_table(
            f"{_of_row(end, row)}hypotheses kept", kept(outcome), None, outcome.returned, penalty, group
        )
        for row, outcome in enumerate(end.rows)
    )


def hypothesis_notes(end: BeamEnd | None) -> tuple[Note, ...]:
    """By how much the best one won, and at which length penalty another would have.

    Args:
        end: the end of the search; None for a run without one.
    """
    if end is None:
        return ()
    return tuple(note for row, outcome in enumerate(end.rows) for note in _notes(end, row, outcome))


def _notes(end: BeamEnd, row: int, outcome: BeamOutcome) -> Iterator[Note]:
    place = _of_row(end, row)
    won = margin(outcome)
    if won is not None and outcome.returned:
        yield Note(f"{place}hypothesis {outcome.returned[0]} won by {score(won)}.", "fact")
    if any(each.unmet for each in kept(outcome)):
        yield Note(
            f"{place}fewer sequences met the constraints than are returned: others were taken too.",
            "warning",
        )
    for turn in turns(outcome, end.length_penalty):
        side = "above" if turn.above else "below"
        yield Note(
            f"{place}with length_penalty {side} {score(turn.penalty)}, hypothesis {turn.winner} "
            "would be the best of those kept.",
            "fact",
        )


def _of_row(end: BeamEnd, row: int) -> str:
    return f"batch row {row}: " if len(end.rows) > 1 else "beam search: "
