"""Attention of a step in rows: the positions that each layer or head attends to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reports.view import figures
from reports.view.tokens import TokenView, token_view
from tracer.analysis.attention import Attention, AttentionWeights
from tracer.schema.run import TokenText

TOP_POSITIONS = 5
"""Positions listed for a layer or head."""


@dataclass(frozen=True)
class Seen:
    """One position of the context.

    Attributes:
        position: its place in the sequence, from 0.
        token: the token there; None for a position without a token id, and for an unused slot.
        unused: it is a slot of the cache behind the sequence.
        weight: from 0 to 1.
        share: the same as text.
    """

    position: int
    token: TokenView | None
    unused: bool
    weight: float
    share: str


@dataclass(frozen=True)
class AttentionRow:
    """One layer or head.

    Attributes:
        name: its number.
        top: positions with the highest weights, highest first.
        entropy: of the weights, in bits.
    """

    name: str
    top: tuple[Seen, ...]
    entropy: str


@dataclass(frozen=True)
class AttentionView:
    """The attention of the last position.

    Attributes:
        title: what it is.
        where: step, row, layer and head.
        rows: layers or heads; empty where one head is shown.
        kind: ``layer`` or ``head``.
        context: all positions with the weights of one head, or of the mean; empty where rows are shown.
    """

    title: str
    where: str
    rows: tuple[AttentionRow, ...]
    kind: str
    context: tuple[Seen, ...]


def attention_view(
    attention: Attention,
    tokens: Mapping[int, TokenText],
    *,
    layer: int | None = None,
    head: int | None = None,
) -> AttentionView:
    """Put attention into rows.

    Args:
        attention: what was recorded.
        tokens: texts of the recording.
        layer: show the heads of this layer; all layers, averaged over heads, without it.
        head: show all positions for this head of the layer.
    """
    where = f"step {attention.step}, row {attention.row}, last position"
    if layer is None:
        rows = tuple(
            _row(str(each.layer), each.mean, float(each.entropy.mean()), attention, tokens)
            for each in attention.layers
        )
        return AttentionView("Attention", f"{where}, mean over heads", rows, "layer", ())
    found = attention.layer(layer)
    where = f"{where}, layer {layer}"
    if head is None:
        rows = tuple(
            _row(str(number), weights, entropy, attention, tokens)
            for number, (weights, entropy) in enumerate(
                zip(found.weights, found.entropy.tolist(), strict=True)
            )
        )
        return AttentionView("Attention", where, rows, "head", ())
    weights = found.weights[head]
    context = tuple(_seen(place, weights, attention, tokens) for place in range(len(weights)))
    return AttentionView("Attention", f"{where}, head {head}", (), "head", context)


def _row(
    name: str,
    weights: AttentionWeights,
    entropy: float,
    attention: Attention,
    tokens: Mapping[int, TokenText],
) -> AttentionRow:
    order = np.argsort(-weights, kind="stable")[:TOP_POSITIONS].tolist()
    return AttentionRow(
        name=name,
        top=tuple(_seen(place, weights, attention, tokens) for place in order if weights[place] > 0),
        entropy=f"{max(0.0, entropy):.2f}",
    )


def _seen(
    place: int, weights: AttentionWeights, attention: Attention, tokens: Mapping[int, TokenText]
) -> Seen:
    token, weight = attention.context[place], float(weights[place])
    return Seen(
        position=attention.start + place,
        unused=attention.start + place >= attention.length,
        token=None if token is None else token_view(token, tokens),
        weight=weight,
        share=figures.probability(weight),
    )
