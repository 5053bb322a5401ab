"""The logit lens of a step, put into words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reports.view import figures
from reports.view.tokens import TokenView, token_view
from tracer.analysis.lens import Lens, LensLayer
from tracer.schema.run import TokenText


@dataclass(frozen=True)
class LensRow:
    """One layer.

    Attributes:
        layer: its number.
        top: its most probable tokens with their probabilities.
        rank: rank of the chosen token.
        probability: of the chosen token, from 0 to 1.
        first: whether the chosen token ranks first.
    """

    layer: int
    top: tuple[tuple[TokenView, str], ...]
    rank: str
    probability: float
    first: bool


@dataclass(frozen=True)
class LensView:
    """The lens of one row of a step.

    Attributes:
        title: what it is.
        where: step and row.
        chosen: the token that the step chose.
        summary: from which layer on it ranks first.
        rows: one a layer.
    """

    title: str
    where: str
    chosen: TokenView | None
    summary: str
    rows: tuple[LensRow, ...]


def lens_view(lens: Lens, tokens: Mapping[int, TokenText]) -> LensView:
    """Put a lens into words.

    Args:
        lens: the lens.
        tokens: texts of the recording.
    """
    return LensView(
        title="Logit lens",
        where=f"step {lens.step}, row {lens.row}",
        chosen=None if lens.chosen is None else token_view(lens.chosen, tokens),
        summary=_summary(lens),
        rows=tuple(_row(layer, tokens) for layer in lens.layers),
    )


def _summary(lens: Lens) -> str:
    last = len(lens.layers) - 1
    if lens.settled is None:
        best = min(lens.layers, key=lambda layer: layer.rank, default=None)
        if best is None:
            return "No layer was recorded."
        return (
            f"It ranks first in no layer up to the last; its best rank is {best.rank}, in layer {best.layer}."
        )
    if lens.settled == last:
        return f"It ranks first from the last layer on, {last}."
    return f"It ranks first from layer {lens.settled} on, of {figures.plural(last + 1, 'layer')}."


def _row(layer: LensLayer, tokens: Mapping[int, TokenText]) -> LensRow:
    top = zip(layer.tokens, layer.probabilities, strict=True)
    return LensRow(
        layer=layer.layer,
        top=tuple((token_view(token, tokens), figures.probability(share)) for token, share in top),
        rank=figures.count(layer.rank),
        probability=layer.probability,
        first=layer.rank == 1,
    )
