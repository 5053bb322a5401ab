"""Stops 1 to 4: what goes into the model, through its layers, and comes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reports.view.blocks import Note, OtherRows, TokenStrip, Variable, VariableTable
from reports.view.card import Block
from reports.view.figures import bits, count, duration, plural, score, span
from reports.view.glossary import MODEL_INPUTS
from reports.view.layers import layer_table
from reports.view.stops.cache import cache_block
from reports.view.stops.candidates import highest, raw_list
from reports.view.stops.checks import NOT_RECORDED
from reports.view.stops.context import Context
from reports.view.stops.values import row_values, values_text
from reports.view.text import plain
from tracer.schema.columns import NO_TOKEN
from tracer.schema.run import LoopName, RunHeader
from tracer.schema.step import ForwardResult, ModelInputs
from tracer.schema.tensors import NamedTensor

_LAST_LOGITS: Mapping[LoopName, str] = {
    "_sample": "next_token_logits",
    "_assisted_decoding": "new_logits",
    "_dola_decoding": "final_logits",
    "_beam_search": "next_token_logits",
    "_group_beam_search": "next_token_logits",
    "_constrained_beam_search": "next_token_logits",
    "_contrastive_search": "logit_for_next_step",
}
"""What a loop calls the logits of the last position."""


def _last_logits(header: RunHeader) -> str:
    """The same for a run; a beam search without a scorer has another name."""
    return "logits" if header.without_scorer else _LAST_LOGITS[header.loop]


def model_call(context: Context) -> Iterator[Block]:
    """Every model input, the cache before the forward pass, and the new tokens."""
    head = context.step.head
    new = head.inputs.sequence_length - head.inputs.new_start
    if head.phase == "prefill":
        how = " in one forward pass" if context.header.passes == 1 else ""
        yield Note(f"Prefill: the model reads the whole prompt{how}.")
        if head.inputs.leading:
            yield Note(
                f"The first {plural(head.inputs.leading, 'position')} of each row have no token id: they "
                "were given as embeddings, or were in the KV cache before this run.",
                "fact",
            )
    elif not head.cache_before.length:
        yield Note("There is no KV cache to read from: the model reads every token of each row again.")
    else:
        holds = "a state of them" if head.cache_before.state else "keys and values"
        yield Note(
            f"Decode: the model reads only {plural(new, 'new token')} of each row; "
            f"of the tokens before, the KV cache holds {holds}."
        )
    passes = context.header.passes
    if passes > 1:
        part = plural(context.step.rows // passes, "row")
        yield Note(
            f"With low_memory it reads the rows in {passes} parts, {part} in a forward pass. These are the "
            "inputs of all of them."
        )
    yield VariableTable(
        (
            *(argument(context, tensor) for tensor in head.inputs.tensors),
            *other_arguments(head.inputs),
        )
    )
    strip = new_tokens(context, head.inputs)
    if strip is not None:
        yield strip
    yield cache_block("KV cache before the forward pass", head.cache_before)


def layers(context: Context) -> Iterator[Block]:
    """Stop 2: module calls, equal layers folded."""
    table = layer_table(context.header.modules, context.step)
    if table is None:
        yield Note("The module calls of this step were not recorded.", "warning")
        return
    passes = context.step.head.passes
    within = f" in {passes} forward passes" if passes > 1 else ""
    yield Note(
        f"{plural(table.calls, 'module call')}{within}; equal layers share a line, "
        "with the modules inside them below it."
    )
    yield table
    if all(row.statistics is None for row in table.rows):
        yield Note(f"No statistics were taken (capture level {context.header.capture.level}).", "fact")


def forward_result(context: Context) -> Iterator[Block]:
    """Stop 3: hidden states and logits, and what the last position is for."""
    head = context.step.head
    result = head.forward
    if result is None:
        yield Note("The result of the forward pass was not seen.", "warning")
        return
    yield VariableTable(tuple(results(result, head.inputs)))
    yield _last_position(context, result)
    if head.forward_seconds:  # not known while the run is halted inside the forward pass
        what = "forward pass" if head.passes == 1 else f"{head.passes} forward passes"
        yield Note(f"{what} {duration(head.forward_seconds)} on the host", "fact")
    if head.prefill_chunks:
        yield Note(
            f"{plural(head.prefill_chunks, 'forward pass', 'forward passes')} before it read the rest of the "
            "prompt in parts",
            "fact",
        )
    if head.extra_forwards:
        yield Note(
            f"{plural(head.extra_forwards, 'further forward pass', 'further forward passes')} in this step, "
            "which the loop itself did not ask for",
            "fact",
        )


def next_logits(context: Context) -> Iterator[Block]:
    """Stop 4: the logits of the last position, or of all that are asked about."""
    result = context.step.head.forward
    if result is not None:
        yield VariableTable((_next_logits(context, result),))
        yield from _judged_position(context)
    if context.header.ranks and context.step.number > 1:
        yield Note(f"No forward pass of this step: step {context.step.number - 1} has read the last token.")
    if context.header.loop in ("_sample", "_assisted_decoding", "_contrastive_search"):
        yield from first_scores(context)


def first_scores(context: Context) -> Iterator[Block]:
    """The scores that the processors begin with."""
    scores = context.step.scores
    if scores is None:
        yield NOT_RECORDED
        return
    yield raw_list(context, scores)
    yield from other_first_scores(context)


def other_first_scores(context: Context) -> Iterator[OtherRows]:
    """The best of these scores in the rows that are not shown in full."""
    if context.other_rows and context.step.scores is not None:
        yield OtherRows(
            (f"highest {context.first_scores.one}", "token", "entropy"),
            tuple((row, _raw_figures(context, row)) for row in context.other_rows),
        )


def argument(context: Context, tensor: NamedTensor, text: str | None = None) -> Variable:
    """A tensor argument of the model.

    Args:
        context: the step.
        tensor: the argument.
        text: its values in words; None for those of the row that is shown in full.
    """
    rows = context.step.rows
    values = row_values(tensor, context.row, rows)
    if text is None and values is not None and tensor.values is not None:
        text = values_text(values, tensor.values.omitted)
        if rows > 1 and len(tensor.info.shape) > 1 and tensor.info.shape[0] == rows:
            text = context.place + text
    return Variable(plain(tensor.name), tensor.info, text, MODEL_INPUTS.get(tensor.name))


def other_arguments(inputs: ModelInputs) -> Iterator[Variable]:
    """The arguments that are no tensors.

    Args:
        inputs: the arguments.
    """
    for name, value in inputs.others.items():
        yield Variable(plain(name), value=plain(value, 200))


def new_tokens(context: Context, inputs: ModelInputs) -> TokenStrip | None:
    """The tokens of the row that the model has not read before.

    Args:
        context: the step.
        inputs: the arguments of its forward pass.
    """
    ids = inputs.tensor("input_ids")
    values = row_values(ids, context.row, context.step.rows) if ids is not None else None
    if values is None or not values.size:
        return None
    length, start = inputs.sequence_length, inputs.new_start
    what = "new token, position" if length - start == 1 else "new tokens, positions"
    title = f"{context.place}{what} {span(start, length - 1)} of the row's {count(length)}"
    padding = context.header.prompt[context.row].padding if context.row < len(context.header.prompt) else 0
    if padding > start:
        title += f" (the first {count(padding)} are padding)"
    return TokenStrip(title, context.sequence(values[start - length :]), start)


def results(result: ForwardResult, inputs: ModelInputs) -> Iterator[Variable]:
    """What a forward pass returned.

    Args:
        result: specs of it.
        inputs: the arguments of the forward pass.
    """
    if result.hidden_states is not None:
        yield Variable(
            "hidden_states",
            result.hidden_states,
            meaning="[rows, new tokens, hidden size], after the last layer",
        )
    positions = "last position" if _last_only(inputs, result) else "new tokens"
    yield Variable(
        "logits", result.logits, meaning=f"[rows, {positions}, vocabulary], hidden_states through lm_head"
    )


def _last_only(inputs: ModelInputs, result: ForwardResult) -> bool:
    """Whether the model computed no logits but those of the last of several positions."""
    return _positions(result) == 1 < inputs.sequence_length - inputs.new_start


def _positions(result: ForwardResult) -> int:
    return result.logits.shape[1] if len(result.logits.shape) > 2 else 1


def _last_position(context: Context, result: ForwardResult) -> Note:
    head = context.step.head
    last = head.inputs.sequence_length - 1
    alone = _last_only(head.inputs, result)
    if _proposed(context):
        return _last_positions(context, result)
    if context.header.ranks:
        return Note(
            "The hidden state of each candidate says how much it repeats; its logits say what may follow it, "
            f"at position {last + 1}."
        )
    if not alone and _positions(result) == 1:
        return Note(
            f"One position went in, so one comes out: its logits say what may follow position {last}."
        )
    # While the run is halted inside the forward pass, only its arguments tell that there is a cache.
    cached = head.cache_after.length or head.inputs.others.get("use_cache") == "True"
    kept = "leave their keys and values in the KV cache; " if cached else "have no use: "
    others = count(last - head.inputs.new_start if alone else _positions(result) - 1)
    return Note(
        f"Only the last position ({last}) is used: its logits say which token may come next. "
        f"The other {others} {kept}their logits are {'not computed' if alone else 'dropped'}."
    )


def _proposed(context: Context) -> int:
    """How many of the tokens that the model reads are only proposed."""
    inputs = context.step.head.inputs
    if not context.header.proposes:
        return 0
    return max(0, inputs.sequence_length - inputs.leading - context.step.head.ids_before.shape[1])


def _next_logits(context: Context, result: ForwardResult) -> Variable:
    name, info, proposed = _last_logits(context.header), result.next_logits, _proposed(context)
    if not context.header.proposes:
        return Variable(name, info, meaning="[rows, vocabulary]: one score a token")
    return Variable(
        name,
        info.model_copy(update={"shape": (*info.shape[:-1], proposed + 1, *info.shape[-1:])}),
        meaning="[rows, positions, vocabulary]: one score a token, at each place that is asked about",
    )


def _judged_position(context: Context) -> Iterator[Note]:
    """Whose logits the figures are, where there are several positions."""
    head = context.step.head
    if not _proposed(context) or head.assisted is None:
        return
    behind = head.inputs.leading + head.ids_before.shape[1] + len(head.assisted.appended) - 2
    yield Note(f"The figures are those behind position {behind}, where the step's last token comes.", "fact")


def _last_positions(context: Context, result: ForwardResult) -> Note:
    """What the logits of several positions are for."""
    used, last = _proposed(context) + 1, context.step.head.inputs.sequence_length - 1
    others = _positions(result) - used
    rest = f" The logits of the other {plural(others, 'position')} are dropped." if others > 0 else ""
    return Note(
        f"The last {plural(used, 'position')} ({span(last - used + 1, last)}) are used: their logits say "
        f"what the model itself would choose in the place of each proposal, and behind the last one.{rest}"
    )


def _raw_figures(context: Context, row: int) -> tuple[str, ...]:
    scores = context.step.scores
    assert scores is not None
    top = highest(scores, 0, row, 1)
    token = context.token(int(scores.tokens[row, top[0]]) if top else NO_TOKEN, row)
    value = score(float(scores.scores[0, row, top[0]])) if top else "-"
    return value, f"{token.id} {token.label}", bits(float(scores.entropy[0, row]))
