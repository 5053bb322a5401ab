"""The logit lens on a terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import Column, Page, PageRenderable
from reports.terminal.stops.card import draw_rule
from reports.terminal.words import bar, token_text, token_with_id
from reports.view.figures import probability
from reports.view.questions.lens import LensRow, LensView

_MEANING = "The last position of each layer's output, put through the final norm and the output head."
_BAR_CELLS = 12
_TOKEN_CELLS = 12


def render_lens(view: LensView) -> RenderableType:
    """The lens of one row of a step.

    Args:
        view: the lens in words.
    """

    def draw(page: Page) -> None:
        draw_rule(page, view.title, view.where)
        page.wrapped(Text.styled(_MEANING, theme.QUIET))
        if view.chosen is not None:
            chosen = token_with_id(view.chosen)
            chosen.stylize(theme.CHOSEN)
            page.wrapped(Text("Chosen was ").append_text(chosen).append(f". {view.summary}"))
        rows = view.rows
        page.columns(
            [
                Column([Text(str(row.layer)) for row in rows], "layer", "right"),
                Column([_rank(row) for row in rows], "chosen's rank", "right"),
                Column([Text(probability(row.probability)) for row in rows], "probability", "right"),
                Column([bar(row.probability, _BAR_CELLS) for row in rows], "", rank=4),
                *(
                    Column([_top(row, place) for row in rows], "top tokens" if not place else "", rank=place)
                    for place in range(min((len(row.top) for row in rows), default=0))
                ),
            ]
        )

    return PageRenderable(draw)


def _rank(row: LensRow) -> Text:
    return Text.styled(row.rank, theme.CHOSEN if row.first else theme.VALUE)


def _top(row: LensRow, place: int) -> Text:
    token, share = row.top[place]
    text = token_text(token, _TOKEN_CELLS) if token.label else Text.styled(str(token.id), theme.QUIET)
    return text.append(f" {share}", theme.QUIET)
