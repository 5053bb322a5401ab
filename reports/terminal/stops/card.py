"""Steps and the cards of their stops."""

from __future__ import annotations

from functools import partial

from rich.console import RenderableType
from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import INDENT, Page, PageRenderable
from reports.terminal.stops.cache_and_criteria import draw_cache, draw_criteria
from reports.terminal.stops.layers import draw_layers
from reports.terminal.stops.scores import (
    draw_candidates,
    draw_choice,
    draw_figures,
    draw_other_rows,
    draw_stages,
)
from reports.terminal.stops.source import draw_source
from reports.terminal.stops.variables import draw_strip, draw_variables
from reports.view import figures
from reports.view.blocks import Note
from reports.view.card import BlockRenderers, StopCard, render_block
from reports.view.stops.step import StepView


def render_step(view: StepView) -> RenderableType:
    """A whole step: heading and all cards.

    Args:
        view: the step.
    """

    def draw(page: Page) -> None:
        page.blank()
        draw_rule(page, f"Step {view.number}", f"{view.summary}, {figures.duration(view.seconds)}")
        for note in view.alerts:
            draw_note(page, note)
        for card in view.cards:
            _draw_card(page, card)

    return PageRenderable(draw)


def render_card(card: StopCard) -> RenderableType:
    """The card of one stop.

    Args:
        card: the card.
    """
    return PageRenderable(lambda page: _draw_card(page, card))


def draw_rule(page: Page, title: str, remark: str = "") -> None:
    """A heavy line with a title in it.

    Args:
        page: where to draw.
        title: the title.
        remark: follows the title.
    """
    line = Text.styled("━━ ", theme.RULE).append(title, theme.TITLE)
    if remark:
        line.append(f"  {remark}", theme.VALUE)
    line.append(" ")
    line.append("━" * max(0, page.width - line.cell_len), theme.RULE)
    page.line(line)


def draw_heading(page: Page, number: int, title: str, *, skipped: bool = False) -> None:
    """The heading of a stop, with its number.

    Args:
        page: where to draw.
        number: the stop's number.
        title: its title.
        skipped: whether the run does not pass it.
    """
    page.blank()
    line = Text.styled(f"{number:>2} ", theme.NUMBER).append(title, theme.TITLE)
    line.append(" (skipped) " if skipped else " ", theme.QUIET)
    line.append("─" * max(0, page.width - line.cell_len), theme.RULE)
    page.line(line)


def draw_note(page: Page, note: Note) -> None:
    """A note in the style of its level.

    Args:
        page: where to draw.
        note: the note.
    """
    sign, style = theme.LEVELS[note.level]
    page.wrapped(Text.styled(f"{sign}{note.text}", style), INDENT, hanging=len(sign))


def _draw_card(page: Page, card: StopCard) -> None:
    draw_heading(page, card.number, card.title, skipped=card.skipped)
    page.in_card = False
    if card.anchor is not None:
        draw_source(page, card.anchor)
    renderers = _block_renderers(page)
    for block in card.blocks:
        render_block(block, renderers)
        page.in_card = True


def _block_renderers(page: Page) -> BlockRenderers[None]:
    return BlockRenderers(
        note=partial(draw_note, page),
        variables=partial(draw_variables, page),
        tokens=partial(draw_strip, page),
        layers=partial(draw_layers, page),
        stages=partial(draw_stages, page),
        candidates=partial(draw_candidates, page),
        choice=partial(draw_choice, page),
        cache=partial(draw_cache, page),
        criteria=partial(draw_criteria, page),
        figures=partial(draw_figures, page),
        other_rows=partial(draw_other_rows, page),
    )
