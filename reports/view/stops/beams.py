"""Beam search: continuations of all beams of a row, those that go on, and the hypotheses that have ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from reports.view.blocks import FigureColumn, FigureRow, FigureTable, Note
from reports.view.card import Block
from reports.view.figures import plural, score
from reports.view.stops import constraints
from reports.view.stops.context import Context
from reports.view.stops.forward import first_scores
from reports.view.text import plain
from tracer.schema.beams import BeamRow, BeamStep, Continuation, Fate, Hypothesis
from tracer.schema.run import RunHeader

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
    yield FigureTable(
        f"{_of_row(context, found)}scores of the beams before this step",
        (*_group_column(found), FigureColumn("row"), FigureColumn("score")),
        tuple(
            FigureRow(
                (*_group_cell(found, row), str(row), _sum(found.before[row], context)),
                row == context.step.parent(context.row),
            )
            for row in _rows_of_batch_row(context, found)
        ),
    )
    if context.step.number == 1:
        first = "first of each group" if found.groups > 1 else "first"
        yield Note(
            f"All beams are alike before the first token: all but the {first} begin so low that every "
            "continuation comes from the first."
        )


def continuations(context: Context) -> Iterator[Block]:
    """The best continuations of all beams of a row, and what became of each."""
    found = context.step.head.beams
    if found is None:
        yield NOT_RECORDED
        return
    of = "all beams of a group" if found.groups > 1 else "all beams"
    if context.header.do_sample:
        sorted_ = all(_best_first(found.rows[number]) for number in _searches(context, found))
        after = "they are then sorted" if sorted_ else "they stay in the order in which they were drawn"
        yield Note(f"multinomial draws continuations among all tokens of all beams; {after}.")
    else:
        yield Note(f"topk takes the best continuations among all tokens of {of}.")
    if found.groups > 1:
        yield Note(_penalty(context.header))
    if found.constraints is not None:
        yield Note(constraints.HOW_CHOSEN)
    for number in _searches(context, found):
        yield _continuations_of(context, found, number)


def _best_first(row: BeamRow) -> bool:
    """Whether the continuations that are there for their score are sorted by it."""
    scores = [each.score for each in row.continuations if not each.forced]
    return scores == sorted(scores, reverse=True)


def _continuations_of(context: Context, found: BeamStep, number: int) -> Block:
    """The continuations of one group, or of the only one."""
    row = found.rows[number]
    title = f"{_of_row(context, found)}{_of_group(found, number)}"
    if not row.continuations:
        done = f"{title}done before" if title else "This row of the batch was done before"
        return Note(f"{done}: its beams are only filled up.", "fact")
    return FigureTable(
        f"{title}continuations, {'best first' if _best_first(row) else 'as drawn'}",
        (
            FigureColumn("", rank=4),
            FigureColumn("from row"),
            FigureColumn("token", text=True),
            FigureColumn("score before", rank=3),
            FigureColumn("log-probability", rank=2),
            *((FigureColumn("penalty paid", rank=1),) if found.groups > 1 else ()),
            FigureColumn("score"),
            *((FigureColumn("bank", rank=1),) if found.constraints is not None else ()),
            FigureColumn("what became of it", text=True),
        ),
        tuple(
            _continuation(context, found, rank, each, row.cut_below)
            for rank, each in enumerate(row.continuations, 1)
        ),
    )


def beams(context: Context) -> Iterator[Block]:
    """The beams after the step, the hypotheses that ended in it, and whether the row is done."""
    found = context.step.head.beams
    if found is None:
        yield NOT_RECORDED
        return
    yield FigureTable(
        f"{_of_row(context, found)}beams after this step",
        (
            *_group_column(found),
            FigureColumn("row"),
            FigureColumn("continues row"),
            FigureColumn("with", text=True),
            FigureColumn("score"),
        ),
        tuple(_beam(context, found, each) for each in _rows_of_batch_row(context, found)),
    )
    if any(found.scores[each] <= _NONE for each in _rows_of_batch_row(context, found)):
        yield Note(
            "Too few continuations are left to go on: the other rows are filled with some that have ended, "
            "and nothing comes of them.",
            "fact",
        )
    if found.constraints is not None:
        yield from constraints.progress(context, found.constraints, _rows_of_batch_row(context, found))
    for number in _searches(context, found):
        yield from _ended(context, found, number)


def _ended(context: Context, found: BeamStep, number: int) -> Iterator[Block]:
    """The hypotheses that ended in one group, or in the only one, and whether it is done."""
    row, group = found.rows[number], _of_group(found, number)
    if row.ended:
        yield hypothesis_table(f"{group}hypotheses that ended in this step", row.ended, context)
    refused = [each for each in row.continuations if each.fate == "unmet"]
    if refused:
        yield Note(
            f"{plural(len(refused), 'sequence')} ended and {'was' if len(refused) == 1 else 'were'} refused, "
            "for not meeting the constraints",
            "fact",
        )
    if row.pushed_out:
        names = ", ".join(map(str, row.pushed_out))
        yield Note(f"{group}pushed out by better ones: hypothesis {names}", "fact")
    yield Note(f"{group}{_state(row, found.beams, 'group' if group else 'row')}", "fact")


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
    group: Callable[[Hypothesis], int] | None = None,
) -> FigureTable:
    """Hypotheses with the arithmetic of the length penalty.

    Args:
        title: what they are.
        hypotheses: the hypotheses.
        context: step whose tokens ended them; None to leave tokens out.
        returned: numbers of those that are returned.
        penalty: the exponent of the length; None where it is not known.
        group: the group of a hypothesis; None where there are no groups.
    """
    power = "length ** length_penalty" if penalty is None else f"length ** {penalty:g}"
    return FigureTable(
        title,
        (
            FigureColumn("number"),
            *((FigureColumn("group"),) if group is not None else ()),
            FigureColumn("ended in step", rank=2),
            FigureColumn("by" if context else "", text=True, rank=1),
            FigureColumn("sum"),
            FigureColumn("length"),
            FigureColumn(f"sum / {power}"),
            FigureColumn("", text=True),
        ),
        tuple(_hypothesis(each, context, returned, group) for each in hypotheses),
    )


def _hypothesis(
    each: Hypothesis,
    context: Context | None,
    returned: Sequence[int],
    group: Callable[[Hypothesis], int] | None,
) -> FigureRow:
    by = context.token(each.token) if context is not None and each.token is not None else ""
    step = f"{each.step}" if each.token is not None else "open"
    taken = each.number in returned
    place = f"returned, {returned.index(each.number) + 1}" if len(returned) > 1 and taken else "returned"
    notes = [*([place] if taken else []), *(["constraints unmet"] if each.unmet else [])]
    return FigureRow(
        (
            str(each.number),
            *((str(group(each)),) if group is not None else ()),
            step,
            by,
            score(each.total),
            str(each.length),
            score(each.value),
            "; ".join(notes),
        ),
        taken,
    )


def _searches(context: Context, found: BeamStep) -> range:
    """Numbers of the record's rows that are of the row of the batch: of its groups, or the only one."""
    first = found.place(context.row)[0] * found.groups
    return range(first, first + found.groups)


def _rows_of_batch_row(context: Context, found: BeamStep) -> range:
    """The rows of the step that are beams of the row of the batch."""
    searches = _searches(context, found)
    return range(searches.start * found.beams, searches.stop * found.beams)


def _of_row(context: Context, found: BeamStep) -> str:
    """``batch row 1: `` where there is more than one."""
    several = len(found.rows) > found.groups
    return f"batch row {found.place(context.row)[0]}: " if several else ""


def _of_group(found: BeamStep, number: int) -> str:
    """``group 1: `` where there is more than one."""
    return f"group {number % found.groups}: " if found.groups > 1 else ""


def _group_column(found: BeamStep) -> tuple[FigureColumn, ...]:
    return (FigureColumn("group"),) if found.groups > 1 else ()


def _group_cell(found: BeamStep, row: int) -> tuple[str, ...]:
    return (str(found.place(row)[1]),) if found.groups > 1 else ()


def _penalty(header: RunHeader) -> str:
    """What a group pays."""
    strength = plain(header.generation_config.get("diversity_penalty", "diversity_penalty"))
    return (
        f"Groups choose one after the other. A token costs a group {strength} for each beam of the groups "
        "before it that goes on with the same token in this step."
    )


def _sum(value: float, context: Context) -> str:
    """The score of a beam, if it has one."""
    if value > _NONE:
        return score(value)
    return "not begun" if context.step.number == 1 else "ended"


def _continuation(
    context: Context,
    found: BeamStep,
    rank: int,
    each: Continuation,
    last: float | None,
) -> FigureRow:
    own = "not recorded" if each.log_probability is None else score(each.log_probability)
    return FigureRow(
        (
            str(rank),
            str(each.parent),
            context.token(each.token),
            _sum(each.before, context),
            own,
            *((_paid(each),) if found.groups > 1 else ()),
            _after(each.score),
            *(("-" if each.bank is None else str(each.bank),) if found.constraints is not None else ()),
            _fate(context, each, last),
        ),
        each.row is not None,
    )


def _paid(each: Continuation) -> str:
    """What a continuation paid, and because of which rows."""
    if each.penalty is None:
        return "not recorded"
    if not each.taken_by:
        return score(each.penalty) if each.penalty else "nothing"
    rows = ", ".join(map(str, each.taken_by))
    return f"{score(each.penalty)} for row {rows}"


def _fate(context: Context, each: Continuation, last: float | None) -> str:
    """What became of a continuation.

    Args:
        context: the step.
        each: the continuation.
        last: score of the last one that its score alone lets go on.
    """
    if each.fate == "beam":
        return f"goes on as row {each.row}{': advances' if each.forced else ''}"
    if each.forced:
        return FORCED_CUT
    if each.fate == "cut":
        missed = math.nan if last is None else last - each.score
        return f"cut, missed by {score(missed)}" if math.isfinite(missed) else "cut"
    return f"{CONTINUATION_ENDED[each.fate]}{_by(context, each)}"


def _by(context: Context, each: Continuation) -> str:
    """`` (EosToken)`` where a stopping criterion ends what is compared with the hypotheses."""
    known = context.header.criteria
    names = [plain(known[number].class_name) for number in each.criteria if number < len(known)]
    if each.fate == "too late" or not names:
        return ""
    return f" ({', '.join(name.removesuffix('Criteria') for name in names)})"


FORCED_CUT = "advances, but its bank has better ones"
"""What became of a continuation that was there for advancing one, and does not go on."""

CONTINUATION_ENDED: Mapping[Fate, str] = {
    "hypothesis": "ended, and is a hypothesis",
    "too late": "ended, but not among the best beams: dropped",
    "rejected": "ended, but every hypothesis kept is better",
    "closed": "ended, but its batch row was done before",
    "unmet": "ended, but has unmet constraints: dropped",
    "displaced": "gives way to ones that met more",
}
"""What became of a continuation that does not go on, other than for its score."""


def _beam(context: Context, found: BeamStep, row: int) -> FigureRow:
    choice = context.step.choice(row)
    token = "not recorded" if choice is None else context.token(choice.token, row)
    cells = (str(row), str(found.parents[row]), token, _after(found.scores[row]))
    return FigureRow((*_group_cell(found, row), *cells), row == context.row)


def _after(value: float) -> str:
    return score(value) if value > _NONE else "ended"


_NONE = -1e8
"""Below it is no score: the library takes ten times as much from what must not be chosen."""


def _state(row: BeamRow, beams: int, what: str) -> str:
    kept = f"{plural(row.kept, 'hypothesis', 'hypotheses')} kept of at most {beams}"
    if row.worst is None:
        return f"{kept}: the search goes on."
    worst = f"{kept}, the worst worth {score(row.worst)}"
    if row.attainable is not None:
        side = "can" if not row.done else "cannot"
        return (
            f"{worst}; a beam comes to {score(row.attainable)} at best, so that it {side} be beaten: "
            f"{f'the {what} is done' if row.done else 'the search goes on'}."
        )
    return f"{worst}: {f'the {what} is done' if row.done else 'the search goes on'}."
