"""Constraints of a beam search: what each beam has met of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from reports.view.blocks import FigureColumn, FigureRow, FigureTable, Note
from reports.view.card import Block
from reports.view.stops.context import Context
from reports.view.text import plain
from tracer.schema.beams import Constraint, ConstraintProgress, ConstraintStatus, ConstraintStep

HOW_CHOSEN = (
    "Sequences that advance a constraint are added to those that would go on. The bank of one says how "
    "far it has met the constraints, in tokens: the best of each bank goes on first, then the second best of "
    "each, and so on."
)
"""How the scorer decides which sequences go on."""

STATUS: Mapping[ConstraintStatus, str] = {"met": "met", "in progress": "in progress", "open": "not begun"}


def progress(context: Context, found: ConstraintStep, rows: Sequence[int]) -> Iterator[Block]:
    """How far the beams have come with each constraint.

    Args:
        context: the step.
        found: its constraints.
        rows: the rows of the step to show.
    """
    known = [(row, each) for row in rows for each in found.progress[row]]
    if not known:
        return
    yield FigureTable(
        "constraints after this step",
        (
            FigureColumn("row"),
            FigureColumn("constraint", text=True),
            FigureColumn("state", text=True),
            FigureColumn("so far", text=True, rank=1),
            FigureColumn("advanced by", text=True, rank=2),
        ),
        tuple(_line(context, found.constraints[each.constraint], row, each) for row, each in known),
    )
    if any(not each.words for each in found.constraints):
        yield Note("Of a constraint of one's own the recording does not know the tokens.", "fact")
    yield Note("What the prompt contains counts too.")


def _line(context: Context, wanted: Constraint, row: int, reached: ConstraintProgress) -> FigureRow:
    return FigureRow(
        (
            str(row),
            _words(context, wanted),
            STATUS[reached.status],
            _joined(context, reached.so_far) or "-",
            " or ".join(_joined(context, (token,)) for token in reached.next) or "-",
        ),
        row == context.row,
    )


def _words(context: Context, wanted: Constraint) -> str:
    """The sequences one of which meets a constraint; of somebody's own its class."""
    if not wanted.words:
        return plain(wanted.name)
    return " or ".join(_joined(context, word) for word in wanted.words)


def _joined(context: Context, tokens: Iterable[int]) -> str:
    views = context.sequence(tokens)
    if all(view.label for view in views):
        return "".join(view.label for view in views)
    return " ".join(str(view.id) for view in views)  # without a tokenizer
