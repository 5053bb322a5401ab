"""DoLa decoding: the last layer's prediction contrasted with that of an earlier layer."""

from __future__ import annotations

from collections.abc import Iterator

from reports.view.blocks import FigureColumn, FigureRow, FigureTable, Note
from reports.view.card import Block
from reports.view.figures import count, plural, score
from reports.view.stops.context import Context
from reports.view.stops.forward import first_scores, other_first_scores
from tracer.schema.contrast import ContrastedToken, EarlyLayer, LayerContrast


def contrast(context: Context) -> Iterator[Block]:
    """The candidate layers, the one taken, and what the contrast makes of the best tokens."""
    yield Note(
        "The model's head is called once more for each candidate layer. DoLa takes the layer whose "
        "prediction differs most from the last one's, and subtracts its log-probabilities from the last "
        "layer's: what only later layers know counts more."
    )
    found = context.step.head.contrast
    if found is None:
        yield Note("The calls of the model's head for the candidate layers were not seen.", "warning")
        yield from first_scores(context)
        return
    yield _layers(found)
    if context.row < len(found.kept):
        yield Note(
            f"{context.place}{plural(found.kept[context.row], 'token')} of "
            f"{count(context.step.head.vocab_size)} are left: those with at least a tenth of the probability "
            "of the last layer's best one.",
            "fact",
        )
        yield _tokens(context, found)
    yield from other_first_scores(context)


def _layers(found: LayerContrast) -> FigureTable:
    return FigureTable(
        "candidate layers",
        (
            FigureColumn("layer"),
            FigureColumn("divergence from the last"),
            FigureColumn("", text=True),
        ),
        tuple(_layer(each, taken=each.layer == found.taken) for each in found.layers),
    )


def _layer(layer: EarlyLayer, *, taken: bool) -> FigureRow:
    divergence = "not asked: the only one" if layer.divergence is None else f"{layer.divergence:.3e}"
    name = f"{layer.layer} (the embeddings)" if layer.layer == 0 else str(layer.layer)
    return FigureRow((name, divergence, "taken" if taken else ""), taken)


def _tokens(context: Context, found: LayerContrast) -> FigureTable:
    chosen = context.step.choice(context.row)
    return FigureTable(
        f"{context.place}log-probabilities of the best tokens",
        (
            FigureColumn("token", text=True),
            FigureColumn("last layer"),
            FigureColumn(f"layer {found.taken}"),
            FigureColumn("contrast"),
            FigureColumn("", text=True),
        ),
        tuple(
            _token(context, each, taken=chosen is not None and chosen.token == each.token)
            for each in found.tokens[context.row]
        ),
    )


def _token(context: Context, token: ContrastedToken, *, taken: bool) -> FigureRow:
    figures = token.last, token.early, token.last - token.early
    mark = "chosen" if taken else ""
    return FigureRow((context.token(token.token), *map(score, figures), mark), taken)
