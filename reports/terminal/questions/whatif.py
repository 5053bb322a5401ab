"""What-if answers on a terminal: a recorded run under changed settings."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import INDENT, Column, Page, PageRenderable
from reports.terminal.questions.remarks import draw_remarks, draw_title
from reports.terminal.stops.card import draw_rule
from reports.terminal.words import token_with_id
from reports.view.figures import count
from reports.view.questions.whatif import GridView, WhatIfRow, WhatIfView


def render_whatif(view: WhatIfView) -> RenderableType:
    """A run under changed settings.

    Args:
        view: the run.
    """

    def draw(page: Page) -> None:
        draw_rule(page, f"What if  {view.title}" if view.title else "What if nothing changed")
        page.wrapped(Text.styled(view.certainty, theme.QUIET if view.exact else theme.CHANGED))
        for line in view.first:
            page.wrapped(Text(line))
        draw_title(page, f"{view.mode} after" if view.processors else view.mode)
        for processor in view.processors:
            page.wrapped(Text.styled(processor, theme.NAME))
        _draw_steps(page, view)
        draw_remarks(page, view.notes)

    return PageRenderable(draw)


def _draw_steps(page: Page, view: WhatIfView) -> None:
    if not view.rows:
        return
    draw_title(page, "step by step, given the recorded text before")
    page.columns([*_place_columns(view.rows), *_result_columns(view.rows)])
    if view.hidden:
        page.line(Text.styled(f"and {count(view.hidden)} more (--steps all)", theme.QUIET), INDENT)


def _place_columns(rows: Sequence[WhatIfRow]) -> list[Column]:
    """Step, row where there are several, and the recorded token."""
    columns = [Column([Text(str(row.step)) for row in rows], "step", "right")]
    if len({row.row for row in rows}) > 1:
        columns.append(Column([Text(str(row.row)) for row in rows], "row", "right"))
    return [*columns, Column([token_with_id(row.recorded, 14) for row in rows], "recorded")]


def _result_columns(rows: Sequence[WhatIfRow]) -> list[Column]:
    return [
        Column([_outcome(row) for row in rows], "then", limit=30),
        Column([Text(row.candidates) for row in rows], "candidates", "right"),
        Column([Text(row.entropy) for row in rows], "entropy, bits", "right", rank=2),
        Column([Text(row.probability) for row in rows], "recorded's p", "right", rank=1),
        Column([Text.styled("estimate" if row.estimate else "", theme.CHANGED) for row in rows], rank=3),
    ]


def _outcome(row: WhatIfRow) -> Text:
    if row.token is None:
        return Text.styled(row.outcome, theme.QUIET)
    other = token_with_id(row.token, 14)
    other.stylize(theme.CHANGED)
    return other


def render_grid(view: GridView) -> RenderableType:
    """Several settings side by side.

    Args:
        view: the settings.
    """

    def draw(page: Page) -> None:
        draw_rule(page, "What if", f"{count(len(view.rows))} settings of {', '.join(view.names)}")
        rows = view.rows
        page.columns(
            [
                *(
                    Column([Text.styled(row.values[place], theme.NAME) for row in rows], name, "right")
                    for place, name in enumerate(view.names)
                ),
                Column([Text(row.candidates) for row in rows], "candidates", "right"),
                Column([Text(row.entropy) for row in rows], "entropy, bits", "right"),
                Column([Text(row.first) for row in rows], "first another token"),
                Column([Text.styled("" if row.exact else "estimate", theme.CHANGED) for row in rows]),
            ]
        )
        draw_remarks(page, view.notes)

    return PageRenderable(draw)
