"""Stops 9 to 11: what the step appends and updates, and whether another one follows."""

from __future__ import annotations

from collections.abc import Iterator

from reports.view.blocks import CriterionRow, CriterionTable, Note, Variable, VariableTable
from reports.view.card import Block
from reports.view.figures import byte_size, count, plural
from reports.view.glossary import criterion_meaning, settings_text
from reports.view.stops.cache import cache_block
from reports.view.stops.context import Context
from reports.view.stops.values import row_values, values_text
from reports.view.text import plain
from tracer.schema.run import CriterionInfo
from tracer.schema.step import Criterion


def append(context: Context) -> Iterator[Block]:
    """Stop 9: ``input_ids`` before and after."""
    head = context.step.head
    if context.step.parents:
        yield Note(
            "Each row becomes the row that it continues, with its token as the last column of input_ids."
        )
    elif head.assisted is not None:
        yield Note("What was accepted, and the token behind it, become the last columns of input_ids.")
    else:
        yield Note("The chosen token of each row becomes the last column of input_ids.")
    last = _last_id(context, context.row)
    before = Variable("input_ids before", head.ids_before, last and f"{context.place}…, {last}")
    if head.ids_after is None:
        yield VariableTable((before,))
        yield Note("The append was not seen.", "warning")
        return
    choice = context.step.choice(context.row) if context.step.scores is not None else None
    last = _last_id(context, context.step.parent(context.row))
    ids = [part for part in ("…", last, *map(str, context.step.appended(context.row))) if part]
    after = Variable(
        "input_ids after", head.ids_after, f"{context.place}{', '.join(ids)}" if choice else None
    )
    yield VariableTable((before, after))


def update(context: Context) -> Iterator[Block]:
    """Stop 10: the cache after the step, and the arguments of the next forward pass."""
    head = context.step.head
    yield cache_block(head.inputs.cache_name, head.cache_after, context.step.cache)
    added = head.cache_after.length - head.cache_before.length
    if head.cache_after.groups:
        grown = head.cache_after.nbytes - head.cache_before.nbytes
        sign = "+" if added >= 0 else ""
        yield Note(
            f"this step: {sign}{plural(added, 'slot')} a layer, {sign}{byte_size(grown)} in all layers",
            "fact",
        )
    if head.update is None:
        yield Note("The update of model_kwargs was not seen.", "warning")
        return
    variables = []
    if head.update.attention_mask is not None:
        variables.append(
            Variable(
                "attention_mask", head.update.attention_mask, meaning="one column longer, for the new token"
            )
        )
    if head.update.cache_position is not None:
        variables.append(
            Variable(
                "cache_position",
                value=f"[{values_text(head.update.cache_position)}]",
                meaning="the slot that the next step writes",
            )
        )
    if variables:
        yield VariableTable(tuple(variables), "for the next step")


def stopping(context: Context) -> Iterator[Block]:
    """Stop 11: which criteria fired, and which rows go on."""
    head = context.step.head
    criteria = context.header.criteria
    if context.header.without_scorer:
        yield Note(
            "The criteria are asked about every continuation, and end those for which one fires; here are "
            "their answers about the beams that are chosen next."
        )
    if head.criteria:
        yield CriterionTable(
            tuple(_criterion(answer, criteria) for answer in head.criteria), context.step.rows
        )
    else:
        yield Note("No stopping criterion was asked.", "fact")
    yield _outlook(context)


def _last_id(context: Context, row: int) -> str | None:
    """The last id of a row before the step, if the model has read it in this step."""
    head = context.step.head
    ids = head.inputs.tensor("input_ids")
    if ids is None or ids.values is None or ids.values.omitted or ids.info.shape[:1] != (context.step.rows,):
        return None
    # What the model reads may go beyond what is decided, by the tokens that are only proposed.
    ahead = head.inputs.sequence_length - head.inputs.leading - head.ids_before.shape[1]
    values = row_values(ids, row, context.step.rows)
    return None if values is None or not 0 <= ahead < values.size else str(int(values[-1 - ahead]))


def _criterion(answer: Criterion, criteria: tuple[CriterionInfo, ...]) -> CriterionRow:
    if answer.index >= len(criteria):
        return CriterionRow(f"criterion {answer.index}", (), None, answer.fired)
    info = criteria[answer.index]
    return CriterionRow(
        class_name=plain(info.class_name),
        settings=settings_text(info.settings),
        meaning=criterion_meaning(info),
        fired=answer.fired,
    )


def _outlook(context: Context) -> Note:
    head = context.step.head
    if not head.unfinished:
        return Note(f"No row goes on: step {head.step} is the last one.", "fact")
    if context.step.rows == 1:
        return Note(f"Nothing fired: the loop goes on with step {head.step + 1}.", "fact")
    rows = ", ".join(count(row) for row in head.unfinished)
    which = f"Row {rows} goes" if len(head.unfinished) == 1 else f"Rows {rows} go"
    return Note(f"{which} on with step {head.step + 1}.", "fact")
