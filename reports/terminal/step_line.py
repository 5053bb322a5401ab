"""Steps that are not printed in full: one line a row."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import Page, PageRenderable
from reports.terminal.stops.card import draw_note
from reports.terminal.words import token_with_id
from reports.view.figures import count, plural, probability
from reports.view.run.step_line import RowLine, StepLine

_FIXED = 4 + 2 + 2 + 11 + 2 + 4 + 2 + 2 + 7 + 2 + 5
"""Cells of everything but the two tokens: step, probability, rank, runner-up's probability, cache."""

_WIDEST_TOKEN = 30


def render_line(view: StepLine, *, heading: bool = False) -> RenderableType:
    """A step in one line a row.

    Args:
        view: the step.
        heading: say above it what the figures are.
    """

    def draw(page: Page) -> None:
        batch = len(view.rows) > 1
        if heading:
            page.blank()
            page.line(
                _cells(
                    page,
                    batch,
                    Text("step"),
                    Text("row"),
                    Text("token"),
                    "probability",
                    "rank",
                    Text("runner-up"),
                    "",
                    "cache",
                    theme.LABEL,
                )
            )
        for row in view.rows:
            if row.accepted:
                page.line(_accepted(view, row))
            page.line(_row(page, view, row, batch=batch))
        if not view.rows:
            page.line(Text(f"{view.number:>4}  ").append("scores not recorded", theme.CHANGED))
        for note in view.alerts:
            draw_note(page, note)

    return PageRenderable(draw)


def _row(page: Page, view: StepLine, row: RowLine, *, batch: bool) -> Text:
    width = _token_width(page, batch)
    step, cache = Text.styled(count(view.number), theme.NUMBER), count(view.cache_length)
    if row.padding:
        token = token_with_id(row.token, width).append(" (ended)", theme.QUIET)
        return _cells(page, batch, step, _place(row), token, "", "", Text(), "", cache)
    second = token_with_id(row.runner_up, width) if row.runner_up else Text.styled("none", theme.QUIET)
    chance = probability(row.runner_up_probability) if row.runner_up else ""
    return _cells(
        page,
        batch,
        step,
        _place(row),
        token_with_id(row.token, width),
        probability(row.probability),
        count(row.rank),
        second,
        chance,
        cache,
    )


def _accepted(view: StepLine, row: RowLine) -> Text:
    """The proposals that a step accepted, before the token of its own."""
    tokens = " ".join(token.label for token in row.accepted)
    line = Text.styled(f"{count(view.number):>4}", theme.NUMBER).append(f"  {tokens}", theme.CHOSEN)
    return line.append(f"  {plural(len(row.accepted), 'proposal')} accepted", theme.QUIET)


def _place(row: RowLine) -> Text:
    """The row, and the one that it continues where that is another."""
    return Text(str(row.row) if row.parent == row.row else f"{row.row}←{row.parent}")


def _token_width(page: Page, batch: bool) -> int:
    return max(8, min(_WIDEST_TOKEN, (page.width - _FIXED - (7 if batch else 0)) // 2))


def _cells(
    page: Page,
    batch: bool,
    step: Text,
    row: Text,
    token: Text,
    chance: str,
    rank: str,
    second: Text,
    second_chance: str,
    cache: str,
    style: str = theme.VALUE,
) -> Text:
    width = _token_width(page, batch)
    parts = [(step, 4, "right"), *([(row, 5, "right")] if batch else [])]
    parts += [(token, width, "left"), (Text(chance), 11, "right"), (Text(rank), 4, "right")]
    parts += [(second, width, "left"), (Text(second_chance), 7, "right"), (Text(cache), 5, "right")]
    line = Text(style=style)
    for text, cells, side in parts:
        fitted = text.copy()
        fitted.truncate(cells, overflow="ellipsis")
        fitted.align("right" if side == "right" else "left", cells)
        line.append_text(fitted).append("  ")
    return line
