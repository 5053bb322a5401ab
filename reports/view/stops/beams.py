"""Beam search: continuations of all beams of a row, those that go on, and the hypotheses that have ended."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from reports.view.blocks import FigureColumn, FigureRow, FigureTable, Note
from reports.view.card import Block
from reports.view.figures import plural, score
from reports.view.stops.context import Context
from reports.view.stops.forward import first_scores
from reports.view.text import plain
from tracer.schema.beams import BeamRow, BeamStep, Continuation, Fate, Hypothesis

NOT_RECORDED = Note("What the beam search decided was not recorded.", "warning")


def log_softmax(context: Context) -> Iterator[Block]:
    """The log-probabilities, which beam search adds up."""
    yield Note("log_softmax turns the logits into log-probabilities; the score of a beam is their sum.")
    yield from first_scores(context)


def beam_scores(context: Context) -> Iterator[Block]:
    """The scores of the beams before the step, which are added to every token's."""
    found = context.step.head.beams
    if found is None:
        yield NOT_RECORDED
        return
    yield Note("Each token's log-probability is added to the score of its beam.")
    first = _first_row(context, found)
    yield FigureTable(
        f"{_of_row(context, found)}scores of the beams before this step",
        (FigureColumn("row"), FigureColumn("score")),
        tuple(
            FigureRow((str(row), _sum(found.before[row], context)), row == context.step.parent(context.row))
            for row in range(first, first + found.beams)
        ),
    )
    if context.step.number == 1:
        yield Note(
            "All beams are alike before the first token: all but the first begin so low that every "
            "continuation comes from the first."
        )


def continuations(context: Context) -> Iterator[Block]:
    """The best continuations of all beams of a row, and what became of each."""
    found = context.step.head.beams
    if found is None:
        yield NOT_RECORDED
        return
    row = _row(context, found)
    best_first = [*row.continuations] == sorted(row.continuations, key=lambda each: -each.score)
    if context.header.do_sample:
        after = "they are then sorted" if best_first else "they stay in the order in which they were drawn"
        yield Note(f"multinomial draws continuations among all tokens of all beams; {after}.")
    else:
        yield Note("topk takes the best continuations among all tokens of all beams.")
    if not row.continuations:
        yield Note("This row of the batch was done before: its beams are only filled up.", "fact")
        return
    yield FigureTable(
        f"{_of_row(context, found)}continuations, {'best first' if best_first else 'as drawn'}",
        (
            FigureColumn("", rank=3),
            FigureColumn("from row"),
            FigureColumn("token", text=True),
            FigureColumn("score before", rank=2),
            FigureColumn("log-probability", rank=1),
            FigureColumn("score"),
            FigureColumn("what became of it", text=True),
        ),
        tuple(
            _continuation(context, rank, each, row.continuations)
            for rank, each in enumerate(row.continuations, 1)
        ),
    )


def beams(context: Context) -> Iterator[Block]:
    """The beams after the step, the hypotheses that ended in it, and whether the row is done."""
    found = context.step.head.beams
    if found is None:
        yield NOT_RECORDED
        return
    row, first = _row(context, found), _first_row(context, found)
    yield FigureTable(
        f"{_of_row(context, found)}beams after this step",
        (
            FigureColumn("row"),
            FigureColumn("continues row"),
            FigureColumn("with", text=True),
            FigureColumn("score"),
        ),
        tuple(_beam(context, found, each) for each in range(first, first + found.beams)),
    )
    if any(found.scores[each] <= _NONE for each in range(first, first + found.beams)):
        yield Note(
            "Too few continuations are left to go on: the other rows are filled with some that have ended, "
            "and nothing comes of them.",
            "fact",
        )
    if row.ended:
        yield hypothesis_table("hypotheses that ended in this step", row.ended, context)
    if row.pushed_out:
        names = ", ".join(map(str, row.pushed_out))
        yield Note(f"pushed out by better ones: hypothesis {names}", "fact")
    yield Note(_state(row, found.beams), "fact")


def reorder(context: Context) -> Iterator[Block]:
    """Whose slots of the KV cache each row goes on with."""
    found = context.step.head.beams
    if found is None:
        yield NOT_RECORDED
        return
    moved = [row for row, parent in enumerate(found.parents) if row != parent]
    if context.step.head.cache_after.kind == "none":
        yield Note("There is no KV cache to reorder.")
    elif not moved:
        yield Note("Every row goes on with its own slots of the KV cache: nothing moves.")
    else:
        yield Note(
            "Each row of the KV cache becomes a copy of the row that it continues; the next step's check of "
            "the cache sees that exactly these moved."
        )
        texts = ", ".join(f"{row} ← {found.parents[row]}" for row in moved)
        yield Note(f"rows that get another row's slots: {texts}", "fact")


def of_parent(context: Context) -> Note | None:
    """Which row's scores are shown, where they are not those of the row itself."""
    parent = context.step.parent(context.row)
    if parent == context.row:
        return None
    return Note(f"Row {context.row} goes on from row {parent} of this step: its scores are shown.", "fact")


def hypothesis_table(
    title: str,
    hypotheses: Sequence[Hypothesis],
    context: Context | None = None,
    returned: Sequence[int] = (),
    penalty: float | None = None,
) -> FigureTable:
    """Hypotheses with the arithmetic of the length penalty.

    Args:
        title: what they are.
        hypotheses: the hypotheses.
        context: step whose tokens ended them; None to leave tokens out.
        returned: numbers of those that are returned.
        penalty: the exponent of the length; None where it is not known.
    """
    power = "length ** length_penalty" if penalty is None else f"length ** {penalty:g}"
    return FigureTable(
        title,
        (
            FigureColumn("number"),
            FigureColumn("ended in step", rank=2),
            FigureColumn("by" if context else "", text=True, rank=1),
            FigureColumn("sum"),
            FigureColumn("length"),
            FigureColumn(f"sum / {power}"),
            FigureColumn("", text=True),
        ),
        tuple(_hypothesis(each, context, returned) for each in hypotheses),
    )


def _hypothesis(each: Hypothesis, context: Context | None, returned: Sequence[int]) -> FigureRow:
    by = context.token(each.token) if context is not None and each.token is not None else ""
    step = f"{each.step}" if each.token is not None else "open"
    taken = each.number in returned
    note = f"returned, {returned.index(each.number) + 1}" if len(returned) > 1 and taken else ""
    return FigureRow(
        (
            str(each.number),
            step,
            by,
            score(each.total),
            str(each.length),
            score(each.value),
            note or ("returned" if taken else ""),
        ),
        taken,
    )


def _first_row(context: Context, found: BeamStep) -> int:
    return context.row // found.beams * found.beams


def _row(context: Context, found: BeamStep) -> BeamRow:
    return found.rows[context.row // found.beams]


def _of_row(context: Context, found: BeamStep) -> str:
    """``batch row 1: `` where there is more than one."""
    return f"batch row {context.row // found.beams}: " if len(found.rows) > 1 else ""


def _sum(value: float, context: Context) -> str:
    """The score of a beam, if it has one."""
    if value > _NONE:
        return score(value)
    return "not begun" if context.step.number == 1 else "ended"


def _continuation(
    context: Context, rank: int, each: Continuation, all_of_them: Sequence[Continuation]
) -> FigureRow:
    own = "not recorded" if each.log_probability is None else score(each.log_probability)
    return FigureRow(
        (
            str(rank),
            str(each.parent),
            context.token(each.token),
            _sum(each.before, context),
            own,
            _after(each.score),
            _fate(context, each, all_of_them),
        ),
        each.row is not None,
    )


def _fate(context: Context, each: Continuation, all_of_them: Sequence[Continuation]) -> str:
    if each.fate == "beam":
        return f"goes on as row {each.row}"
    if each.fate == "cut":
        last = min((other.score for other in all_of_them if other.fate == "beam"), default=each.score)
        missed = last - each.score
        return f"cut, missed by {score(missed)}" if math.isfinite(missed) else "cut"
    return f"{CONTINUATION_ENDED[each.fate]}{_by(context, each)}"


def _by(context: Context, each: Continuation) -> str:
    """`` (EosToken)`` where a stopping criterion ends what is compared with the hypotheses."""
    known = context.header.criteria
    names = [plain(known[number].class_name) for number in each.criteria if number < len(known)]
    if each.fate == "too late" or not names:
        return ""
    return f" ({', '.join(name.removesuffix('Criteria') for name in names)})"


CONTINUATION_ENDED: Mapping[Fate, str] = {
    "hypothesis": "ended, and is a hypothesis",
    "too late": "ended, but not among the best beams: dropped",
    "rejected": "ended, but every hypothesis kept is better",
    "closed": "ended, but its batch row was done before",
}
"""What became of a continuation that ended."""


def _beam(context: Context, found: BeamStep, row: int) -> FigureRow:
    choice = context.step.choice(row)
    token = "not recorded" if choice is None else context.token(choice.token, row)
    figures = str(row), str(found.parents[row]), token, _after(found.scores[row])
    return FigureRow(figures, row == context.row)


def _after(value: float) -> str:
    return score(value) if value > _NONE else "ended"


_NONE = -1e8
"""Below it is no score: the library takes ten times as much from what must not be chosen."""


def _state(row: BeamRow, beams: int) -> str:
    kept = f"{plural(row.kept, 'hypothesis', 'hypotheses')} kept of at most {beams}"
    if row.worst is None:
        return f"{kept}: the search goes on."
    worst = f"{kept}, the worst worth {score(row.worst)}"
    if row.attainable is not None:
        side = "can" if not row.done else "cannot"
        return (
            f"{worst}; a beam comes to {score(row.attainable)} at best, so that it {side} be beaten: "
            f"{'the row is done' if row.done else 'the search goes on'}."
        )
    return f"{worst}: {'the row is done' if row.done else 'the search goes on'}."
