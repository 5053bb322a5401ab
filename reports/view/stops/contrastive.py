"""Contrastive search: the candidates, what each repeats of the text, and which one wins by how much."""

from __future__ import annotations

from collections.abc import Iterator

from reports.view.blocks import FigureColumn, FigureRow, FigureTable, Note, OtherRows, Variable, VariableTable
from reports.view.card import Block
from reports.view.figures import count, duration, plural, probability, score
from reports.view.layers import prompt_layers
from reports.view.stops.cache import cache_block
from reports.view.stops.context import Context
from reports.view.stops.forward import argument, new_tokens, other_arguments, results
from reports.view.stops.values import row_values, values_text
from reports.view.text import plain
from reports.view.tokens import TokenView
from tracer.schema.ranking import ContrastiveStep, RankedCandidate, RowRanking
from tracer.schema.tensors import NamedTensor

NOT_RECORDED = Note("How the candidates were ranked was not recorded.", "warning")
_ENDED = Note("This row had ended: it gets the padding token, whatever its candidates are.", "fact")


def prefill(context: Context) -> Iterator[Block]:
    """The forward pass over the prompt, whole: inputs, module calls, results and cache."""
    head = context.step.head
    found = head.prompt_pass
    if found is None:
        if head.step > 1:
            yield Note("Skipped: step 1 has read the prompt.")
        else:
            yield Note("The forward pass over the prompt was not recorded.", "warning")
        return
    yield Note(
        "The model reads the whole prompt in one forward pass. Its hidden states stay: each candidate is "
        "compared with them."
    )
    yield VariableTable(
        (*(argument(context, each) for each in found.inputs.tensors), *other_arguments(found.inputs))
    )
    strip = new_tokens(context, found.inputs)
    if strip is not None:
        yield strip
    table = prompt_layers(context.header.modules, context.step)
    if table is not None:
        yield Note(f"{plural(table.calls, 'module call')}; equal layers share a line.")
        yield table
    if found.forward is not None:
        yield VariableTable(tuple(results(found.forward, found.inputs)))
    yield cache_block("KV cache behind the prompt", found.cache)
    if found.seconds:
        yield Note(f"forward pass {duration(found.seconds)} on the host", "fact")


def top_k(context: Context) -> Iterator[Block]:
    """The candidates of the row: its most probable tokens."""
    yield Note(
        "The most probable tokens are the candidates. What the model makes of each, it has to read: all of "
        f"them go into the next forward {'pass' if context.header.passes == 1 else 'passes'}."
    )
    found = _ranking(context)
    if found is not None:
        pairs = [(each.token, each.probability) for each in found.candidates]
    elif context.step.scores is not None and context.step.scores.finished[context.row]:
        yield _ENDED
        return
    else:  # the step stands still, or failed, before its candidates were ranked
        wanted = int(context.header.generation_config.get("top_k", "50"))
        known = context.step.candidates_of(context.row)[:wanted]
        pairs = [(each.token, each.probability) for each in known]
    yield FigureTable(
        f"{context.place}candidates",
        (FigureColumn(""), FigureColumn("token", text=True), FigureColumn("probability")),
        tuple(
            FigureRow((str(rank), context.token(token), probability(chance)))
            for rank, (token, chance) in enumerate(pairs, 1)
        ),
    )


def repeat(context: Context) -> Iterator[Block]:
    """The KV cache with a copy of each row for each candidate."""
    found = context.step.head.contrastive
    if found is None:
        yield Note("Each row of the KV cache is repeated, once for each of its candidates.")
        return
    copies = _candidates(context, found)
    rows = context.step.rows
    verb = "becomes" if rows == 1 else "become"
    yield Note(
        f"Each row of the KV cache is repeated {plural(copies, 'time')}, once for each of its candidates: "
        f"{plural(rows, 'row')} {verb} {plural(rows * copies, 'row')}."
    )
    yield cache_block("KV cache before the forward pass", found.repeated)


def candidates_call(context: Context) -> Iterator[Block]:
    """The model inputs of the candidates."""
    head = context.step.head
    rows = context.step.rows
    ids = head.inputs.tensor("input_ids")
    copies = 0 if ids is None or not ids.info.shape else ids.info.shape[0] // rows
    if not copies:
        yield Note("The inputs of this forward pass were not recorded.", "warning")
        return
    position = head.inputs.new_start
    if context.header.passes > 1:
        yield Note(
            f"With low_memory the model reads one candidate after the other, each at position {position}, in "
            f"{context.header.passes - 1} forward passes. The KV cache is cut behind each, so that the next "
            "one finds it as it was. These are the inputs of the first."
        )
    else:
        yield Note(
            f"The model reads one token for each candidate, at position {position}: "
            f"{count(copies)} of each row, {plural(rows * copies, 'row')} in all."
        )
    yield VariableTable(
        (
            *(_argument(context, each, copies) for each in head.inputs.tensors),
            *other_arguments(head.inputs),
        )
    )


def ranking(context: Context) -> Iterator[Block]:
    """The score of each candidate as arithmetic, the winner, and by what margin it won."""
    found = context.step.head.contrastive
    if found is None or not found.rows:
        yield NOT_RECORDED
        return
    alpha = found.penalty_alpha
    yield Note(
        f"score = {1 - alpha:g} · probability - {alpha:g} · similarity (penalty_alpha is {alpha:g}). The "
        "similarity is the largest cosine between the candidate's hidden state and that of any position "
        "before it: it says how much the candidate repeats. The highest score wins."
    )
    row = _ranking(context)
    if row is None:
        yield _ENDED
    else:
        yield _table(context, row)
        yield Note(f"{context.place}{_outcome(context, row)}", "fact")
    others = [(number, found.rows[number]) for number in context.other_rows]
    if others:
        yield OtherRows(
            ("taken", "probability", "similarity", "score", "margin"),
            tuple((number, _figures(context, number, each)) for number, each in others),
        )


def select(context: Context) -> Iterator[Block]:
    """What the cache keeps: the rows of the candidates that were taken."""
    found = context.step.head.contrastive
    if found is None or not found.grown.length:
        yield NOT_RECORDED
        return
    in_turn = context.header.passes > 1
    how = (
        "Of the copies of each row the KV cache keeps that of the candidate taken. The keys and values of "
        "this candidate are in it already"
    )
    if in_turn:
        how = (
            "With low_memory the keys and values of no candidate stay in the KV cache, so that the model "
            "reads the one taken again. Its keys and values are in the cache then"
        )
    yield Note(
        f"{how}: the cache is one token ahead of other ways of decoding. Its logits are what the next step "
        "begins with."
    )
    title = "KV cache with the last of the candidates" if in_turn else "KV cache before the selection"
    yield cache_block(title, found.grown)


def _ranking(context: Context) -> RowRanking | None:
    found = context.step.head.contrastive
    return None if found is None or not found.rows else found.rows[context.row]


def _candidates(context: Context, found: ContrastiveStep) -> int:
    """How many candidates each row has."""
    known = next((row for row in found.rows if row is not None), None)
    if known is not None:
        return len(known.candidates)
    return found.repeated.groups[0].key.shape[0] // context.step.rows if found.repeated.groups else 0


def _argument(context: Context, tensor: NamedTensor, copies: int) -> Variable:
    """An argument that has a row for each candidate: its values for those of the row shown in full."""
    rows = context.step.rows
    shape = tensor.info.shape
    by_candidate = copies > 1 and len(shape) > 1 and shape[0] == rows * copies
    if not by_candidate or tensor.values is None or tensor.values.omitted:
        return argument(context, tensor)
    values = row_values(tensor, context.row * copies, rows * copies)
    if values is None:
        return argument(context, tensor)
    place = f"row {context.row}, each candidate: " if rows > 1 else "each candidate: "
    text = place + values_text(values)
    if plain(tensor.name) == "input_ids":
        flat = tensor.values.decode()
        own = flat[context.row * copies : (context.row + 1) * copies]
        text = context.place + values_text(own)
    return argument(context, tensor, text)


def _table(context: Context, row: RowRanking) -> FigureTable:
    return FigureTable(
        f"{context.place}ranking",
        (
            FigureColumn("", rank=5),
            FigureColumn("candidate", text=True),
            FigureColumn("", text=True),
            FigureColumn("score"),
            FigureColumn("probability", rank=1),
            FigureColumn("similarity", rank=2),
            FigureColumn("most like", text=True, rank=3),
            FigureColumn("at position", rank=4),
        ),
        tuple(
            FigureRow(
                (
                    str(place + 1),
                    context.token(each.token),
                    "taken" if place == row.taken else f"lost by {score(row.winner.score - each.score)}",
                    score(each.score),
                    probability(each.probability),
                    f"{each.penalty:.4f}",
                    _similar(context, each),
                    str(each.position),
                ),
                place == row.taken,
            )
            for place, each in enumerate(row.candidates)
        ),
    )


def _similar(context: Context, each: RankedCandidate) -> TokenView | str:
    if each.similar is None:
        return "no token"
    padding = context.header.prompt[context.row].padding
    return "padding" if each.position < padding else context.sequence((each.similar,))[0]


def _outcome(context: Context, row: RowRanking) -> str:
    """Who won, by how much, and what greedy decoding would have taken."""
    winner, second, first = row.winner, row.runner_up, row.candidates[0]
    text = f"{_name(context, winner)} is taken"
    if second is not None and row.margin is not None:
        text += f", by {score(row.margin)} before {_name(context, second)}"
    if not row.penalty_decided:
        return f"{text}; greedy decoding would have taken the same."
    return (
        f"{text}. The penalty decided: greedy decoding would have taken {_name(context, first)}, which is "
        f"more probable ({probability(first.probability)} against {probability(winner.probability)}) and "
        f"repeats more ({first.penalty:.4f} against {winner.penalty:.4f})."
    )


def _name(context: Context, each: RankedCandidate) -> str:
    return context.token(each.token).label or f"token {each.token}"


def _figures(context: Context, number: int, row: RowRanking | None) -> tuple[str, ...]:
    if row is None:
        return ("padding", "-", "-", "-", "-")
    winner = row.winner
    token = context.token(winner.token, number)
    margin = "-" if row.margin is None else score(row.margin)
    figures = probability(winner.probability), f"{winner.penalty:.4f}", score(winner.score), margin
    return (f"{token.id} {token.label}", *figures)
