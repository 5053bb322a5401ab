"""Titles and sentences around the tables of an answer."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import Page


def draw_remarks(page: Page, notes: Sequence[str]) -> None:
    """Sentences that a reader must know.

    Args:
        page: where to draw.
        notes: the sentences.
    """
    if notes:
        page.blank()
    for note in notes:
        sign, style = theme.LEVELS["warning"]
        page.wrapped(Text.styled(f"{sign}{note}", style), hanging=len(sign))


def draw_title(page: Page, title: str) -> None:
    """The title of a part, with a line of space above.

    Args:
        page: where to draw.
        title: the title.
    """
    page.blank()
    page.wrapped(Text.styled(title, theme.TITLE))
