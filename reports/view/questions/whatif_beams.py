"""Answers about a beam search under other settings in words: which hypotheses it would return."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reports.view.blocks import FigureTable
from reports.view.stops.beams import hypothesis_table
from tracer.analysis.beams import kept
from tracer.analysis.whatif.beams import BeamWhatIf

EXACT = "Exact: continuations are chosen by their scores alone, and all that would be kept was recorded."
IN_PART = "Not all is known: the search would go on where the recorded one was over."


@dataclass(frozen=True)
class BeamWhatIfView:
    """A beam search under changed settings.

    Attributes:
        title: the changed settings.
        certainty: whether all is known.
        exact: the same as truth value.
        lines: what would be returned, by row of the batch.
        tables: the hypotheses that would be kept, of each row of which they are known.
    """

    title: str
    certainty: str
    exact: bool
    lines: tuple[str, ...]
    tables: tuple[FigureTable, ...]


def beam_whatif_view(report: BeamWhatIf) -> BeamWhatIfView:
    """Put a report into words.

    Args:
        report: the report.
    """
    rows = range(len(report.rows))
    return BeamWhatIfView(
        title=", ".join(f"{name} {value}" for name, value in report.settings.changes.items()),
        certainty=EXACT if report.exact else IN_PART,
        exact=report.exact,
        lines=(*(f"{_of_row(report, row)}{_line(report, row)}" for row in rows), *_end(report)),
        tables=tuple(_tables(report)),
    )


def _line(report: BeamWhatIf, row: int) -> str:
    part = report.parts[row]
    if part is not None:
        return f"The search would go on behind step {part}, of which nothing is recorded."
    if report.same[row]:
        return "The same hypothesis would win."
    return "Another hypothesis would win than in the run."


def _end(report: BeamWhatIf) -> Iterator[str]:
    if report.steps is not None:
        yield f"The search would be over in step {report.steps}."


def _tables(report: BeamWhatIf) -> Iterator[FigureTable]:
    for row, outcome in enumerate(report.rows):
        if outcome is not None:
            best_first = sorted(kept(outcome), key=lambda each: -each.value)
            title = f"{_of_row(report, row)}hypotheses kept then"
            yield hypothesis_table(title, best_first, None, outcome.returned, report.length_penalty)


def _of_row(report: BeamWhatIf, row: int) -> str:
    return f"batch row {row}: " if len(report.rows) > 1 else ""
