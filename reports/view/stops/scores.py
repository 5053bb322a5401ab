"""Stops 5 to 8: from raw logits through processors and softmax to the choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from reports.view.blocks import ChoiceRow, ChoiceTable, Note, OtherRows
from reports.view.card import Block
from reports.view.figures import bits, count, plural, probability
from reports.view.stops.assisted import acceptance
from reports.view.stops.beams import continuations
from reports.view.stops.candidates import candidate_list, candidate_rows
from reports.view.stops.checks import NOT_RECORDED
from reports.view.stops.context import Context
from reports.view.stops.contrastive import ranking
from reports.view.stops.stages import ListName, stage_table
from tracer.schema.columns import NO_TOKEN, ScoreColumns
from tracer.schema.run import LoopName
from tracer.schema.step import Draw

GREEDY = "the run is greedy (do_sample=False)"


def processors(context: Context) -> Iterator[Block]:
    """Stop 5: each logits processor."""
    first = context.first_scores.many
    yield from _list(
        context, "logits_processor", f"No logits processor in this run: the scores stay the {first}."
    )


def warpers(context: Context) -> Iterator[Block]:
    """Stop 6: each logits warper, when sampling."""
    if not context.header.do_sample:
        yield Note(f"Skipped: {GREEDY}, so no warper touches the scores.")
        return
    yield from _list(
        context, "logits_warper", "No logits warper in this run: it samples from the scores as they are."
    )


def softmax(context: Context) -> Iterator[Block]:
    """Stop 7: the candidates and their probabilities."""
    scores = context.step.scores
    if scores is None:
        yield NOT_RECORDED
        return
    if context.header.rows_move:
        if not context.header.do_sample:
            yield Note(f"Skipped: {GREEDY}, and the best continuations are taken by their score.")
            return
        yield Note(
            "Softmax over all continuations of all beams of a batch row; the candidates below are those of "
            "this row alone, before the score of its beam is added."
        )
    elif context.header.ranks:
        yield Note("Softmax turns the scores into probabilities: how confident the model is of each token.")
    elif context.header.do_sample:
        yield Note(
            "Softmax turns the scores that are left into probabilities: exp(score), divided by their sum."
        )
    else:
        yield Note(
            f"generate() needs no softmax here, {GREEDY}; the probabilities are computed for this report."
        )
    yield candidate_list(context, scores)
    yield from _nothing_left(scores, context.row)
    if context.other_rows:
        yield OtherRows(
            ("candidates", "entropy", "most probable", "probability"),
            tuple((row, _softmax_figures(context, scores, row)) for row in context.other_rows),
        )


def choice(context: Context) -> Iterator[Block]:
    """What a step decides: the token of every row, or what its loop chooses among."""
    yield from _CHOICES.get(context.header.loop, _choice_by_row)(context)


def _choice_by_row(context: Context) -> Iterator[Block]:
    """The chosen token of every row and, when sampling, the draw."""
    scores = context.step.scores
    if scores is None:
        yield NOT_RECORDED
        return
    yield from _how_chosen(context, scores)
    yield from _nothing_left(scores, context.row)
    rows = [row for row in range(context.step.rows) if scores.chosen[row] != NO_TOKEN]
    if not rows:
        yield Note("No token was chosen.", "fact")
        return
    table = ChoiceTable(tuple(_choice_row(context, scores, row) for row in rows))
    yield table
    if any(row.padding for row in table.rows):
        yield Note("A row that has ended gets the padding token, whatever its scores are.")
    draw = context.step.head.draw
    if draw is not None:
        yield _draw_note(draw, context.step.number)


def _how_chosen(context: Context, scores: ScoreColumns) -> Iterator[Note]:
    if not context.header.do_sample:
        yield Note("argmax takes the token with the highest score.")
        return
    counts = {
        row: int(scores.candidates[row]) for row in range(context.step.rows) if not scores.finished[row]
    }
    drawn = {row: candidates for row, candidates in counts.items() if candidates}
    if drawn:
        yield Note(_drawn(drawn, batch=context.step.rows > 1))


def _nothing_left(scores: ScoreColumns, row: int) -> Iterator[Note]:
    """Why a row has no candidate at all, if it has none."""
    if scores.candidates[row] or scores.finished[row]:
        return
    if not scores.kept[0, row]:
        yield Note("No logit of this row is a number above -inf: the model gave NaN or -inf.", "error")
    elif not scores.kept[-1, row]:
        yield Note("Every score is -inf: the processors left nothing to choose from.", "error")
    else:
        yield Note("The scores hold NaN or +inf, so that no probability is a number.", "error")


def _list(context: Context, list_name: ListName, empty: str) -> Iterator[Block]:
    scores = context.step.scores
    if scores is None:
        yield NOT_RECORDED
        return
    table = stage_table(context, scores, list_name)
    if table is None:
        there = any(item.list_name == list_name for item in context.header.processors)
        yield Note("None of them has run to its end." if there else empty)
        return
    yield table
    if context.other_rows:
        columns = tuple(f"{stage.number} {stage.class_name}" for stage in table.stages)
        yield OtherRows(
            columns,
            tuple((row, _stage_figures(context, scores, list_name, row)) for row in context.other_rows),
        )


def _stage_figures(context: Context, scores: ScoreColumns, list_name: ListName, row: int) -> tuple[str, ...]:
    indices = [i for i, item in enumerate(context.header.processors, 1) if item.list_name == list_name]
    return tuple(
        f"changed {count(int(scores.changed[index, row]))}, removed {count(int(scores.removed[index, row]))}"
        for index in indices
        if index < len(scores.scores)
    )


def _softmax_figures(context: Context, scores: ScoreColumns, row: int) -> tuple[str, ...]:
    rows = candidate_rows(context, scores, row)
    top = f"{rows[0].token.id} {rows[0].token.label}" if rows else "-"
    chance = probability(rows[0].probability or 0.0) if rows else "-"
    return count(int(scores.candidates[row])), bits(float(scores.entropy[-1, row])), top, chance


def _choice_row(context: Context, scores: ScoreColumns, row: int) -> ChoiceRow:
    chosen = int(scores.chosen[row])
    others = (item for item in candidate_rows(context, scores, row) if not item.chosen)
    return ChoiceRow(
        row=row,
        token=context.token(chosen, row),
        probability=float(scores.chosen_probability[row]),
        rank=int(scores.chosen_rank[-1, row]),
        raw_rank=int(scores.chosen_rank[0, row]),
        candidates=int(scores.candidates[row]),
        runner_up=next(others, None),
        padding=bool(scores.finished[row]),
    )


def _drawn(candidates: Mapping[int, int], *, batch: bool) -> str:
    """What multinomial does for all rows that go on.

    Args:
        candidates: how many there are in each of these rows.
        batch: whether there are several rows in all.
    """
    one, among = "candidate", f"of {plural(next(iter(candidates.values())), 'candidate')}"
    if batch:
        one, among = "candidate in every row", "candidate a row"
    single = [str(row) for row, number in candidates.items() if number == 1]
    if len(single) == len(candidates):
        return f"multinomial draws from one {one}: there is nothing to choose."
    text = f"multinomial draws one {among} at random, each as often as its probability says."
    if not single:
        return text
    which = f"Row {single[0]} has" if len(single) == 1 else f"Rows {', '.join(single)} have"
    return f"{text} {which} one candidate only: there is nothing to choose."


def _draw_note(draw: Draw, step: int) -> Note:
    origin = f"RNG state {draw.digest} on {draw.device}"
    if draw.follows:
        return Note(f"the draw: {origin}, the state after the draw of step {step - 1}", "fact")
    if step == 1:
        return Note(f"the draw: {origin}, the run's first", "fact")
    return Note(f"the draw: {origin}; other random numbers were drawn since step {step - 1}", "fact")


_CHOICES: Mapping[LoopName, Callable[[Context], Iterator[Block]]] = {
    "_assisted_decoding": acceptance,
    "_beam_search": continuations,
    "_group_beam_search": continuations,
    "_constrained_beam_search": continuations,
    "_contrastive_search": ranking,
}
"""What decides in loops that do not choose a token of each row by itself."""
