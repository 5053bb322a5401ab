"""Answers about a beam search under other settings on a terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import Page, PageRenderable
from reports.terminal.stops.card import draw_rule
from reports.terminal.stops.scores import draw_figures
from reports.view.questions.whatif_beams import BeamWhatIfView


def render_beam_whatif(view: BeamWhatIfView) -> RenderableType:
    """A beam search under changed settings.

    Args:
        view: the search.
    """

    def draw(page: Page) -> None:
        draw_rule(page, f"What if  {view.title}")
        page.wrapped(Text.styled(view.certainty, theme.QUIET if view.exact else theme.CHANGED))
        for line in view.lines:
            page.wrapped(Text(line))
        for table in view.tables:
            page.blank()
            draw_figures(page, table)

    return PageRenderable(draw)
