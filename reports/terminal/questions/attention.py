"""Attention on a terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import Column, Page, PageRenderable
from reports.terminal.stops.card import draw_rule
from reports.terminal.words import bar, token_text
from reports.view.questions.attention import TOP_POSITIONS, AttentionRow, AttentionView, Seen

_BAR_CELLS = 40
_TOKEN_CELLS = 12


def render_attention(view: AttentionView) -> RenderableType:
    """The attention of the last position.

    Args:
        view: rows of layers or heads, or all positions for one head.
    """

    def draw(page: Page) -> None:
        draw_rule(page, view.title, view.where)
        if not view.context:
            page.wrapped(
                Text.styled("Position in the sequence, token and weight; bits: entropy.", theme.QUIET)
            )
        if view.context:
            _draw_context(page, view.context)
        else:
            _draw_rows(page, view)

    return PageRenderable(draw)


def _draw_rows(page: Page, view: AttentionView) -> None:
    page.columns(
        [
            Column([Text(row.name) for row in view.rows], view.kind, "right"),
            Column(
                [Text.styled(row.entropy, theme.QUIET) for row in view.rows],
                "bits",
                "right",
                rank=TOP_POSITIONS,
            ),
            *(
                Column(
                    [_place(row, place) for row in view.rows],
                    "" if place else "highest weights",
                    rank=place,
                )
                for place in range(TOP_POSITIONS)
            ),
        ]
    )


def _place(row: AttentionRow, place: int) -> Text:
    if place >= len(row.top):
        return Text()
    seen = row.top[place]
    return Text.styled(f"{seen.position} ", theme.QUIET).append_text(_token(seen)).append(f" {seen.share}")


def _draw_context(page: Page, context: tuple[Seen, ...]) -> None:
    page.columns(
        [
            Column([Text.styled(str(seen.position), theme.QUIET) for seen in context], "position", "right"),
            Column([_token(seen) for seen in context], "token"),
            Column([Text(seen.share) for seen in context], "weight", "right"),
            Column([bar(seen.weight, _BAR_CELLS) for seen in context], "", rank=1),
        ]
    )


def _token(seen: Seen) -> Text:
    if seen.token is None:
        return Text.styled("unused" if seen.unused else "no token id", theme.QUIET)
    if not seen.token.label:
        return Text.styled(str(seen.token.id), theme.QUIET)
    return token_text(seen.token, _TOKEN_CELLS)
