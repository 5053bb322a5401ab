"""The end of a run."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import Page, PageRenderable
from reports.terminal.stops.card import draw_note, draw_rule
from reports.terminal.stops.scores import draw_figures
from reports.view.figures import duration, plural
from reports.view.run.summary import Answer, SummaryView


def render_summary(view: SummaryView) -> RenderableType:
    """The answer, the figures, and what needs attention.

    Args:
        view: the end of the run.
    """

    def draw(page: Page) -> None:
        page.blank()
        draw_rule(page, "Answer" if view.answers else "End")
        for answer in view.answers:
            _draw_answer(page, answer, len(view.answers), "sequence" if view.tables else "row")
        for table in view.tables:
            page.blank()
            draw_figures(page, table)
        page.blank()
        sign, style = theme.LEVELS[view.level]
        page.wrapped(Text.styled(f"{sign}{_figures(view)}", style), 0, hanging=2)
        if view.path is not None:
            page.add(Text.styled(f"trace: {view.path}", theme.VALUE, overflow="fold"))
        for note in view.notes:
            draw_note(page, note)

    return PageRenderable(draw)


def _draw_answer(page: Page, answer: Answer, batch: int, name: str) -> None:
    if batch > 1:
        page.line(Text.styled(f"{name} {answer.row}", theme.LABEL))
    text = answer.text if answer.text is not None else ", ".join(map(str, answer.token_ids))
    for line in text.split("\n"):
        page.wrapped(Text(line), 0)


def _figures(view: SummaryView) -> str:
    parts = [f"run {view.run} {view.status}", plural(view.steps, "step"), plural(view.generated, "token")]
    if view.seconds is not None:
        parts.append(duration(view.seconds))
    if view.tokens_per_second is not None:
        parts.append(f"{view.tokens_per_second:.1f} tokens/s")
    return " · ".join(parts)
