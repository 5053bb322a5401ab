"""Where a run is halted: the place in the library, its source lines and its stack."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import INDENT, Page, PageRenderable
from reports.terminal.stops.cache_and_criteria import draw_cache
from reports.terminal.stops.card import draw_note, draw_rule
from reports.terminal.stops.scores import draw_candidates
from reports.view.blocks import CacheTable, CandidateList, Note
from reports.view.text import plain

SourceLine = tuple[int, str]
"""Number and text of a source line."""


def render_halt(
    title: str, place: str, lines: Sequence[SourceLine], current: int, notes: Sequence[Note] = ()
) -> RenderableType:
    """The heading of a halt, and the line that is about to run among its neighbours.

    Args:
        title: which stop of which step.
        place: file and line.
        lines: source lines around it.
        current: number of the line that is about to run.
        notes: why the run is halted here.
    """

    def draw(page: Page) -> None:
        page.blank()
        draw_rule(page, title, place)
        for note in notes:
            draw_note(page, note)
        _draw_lines(page, lines, current)

    return PageRenderable(draw)


def render_source(lines: Sequence[SourceLine], current: int) -> RenderableType:
    """Source lines with a mark at the one that is about to run.

    Args:
        lines: the lines.
        current: number of that line.
    """
    return PageRenderable(lambda page: _draw_lines(page, lines, current))


def render_stack(frames: Sequence[tuple[str, str, str]], hidden: int) -> RenderableType:
    """The stack, innermost frame last.

    Args:
        frames: place, function and source line of each frame.
        hidden: frames further out that are left out.
    """

    def draw(page: Page) -> None:
        if hidden:
            page.line(Text.styled(f"{hidden} more frames outside", theme.QUIET), INDENT)
        for index, (place, function, text) in enumerate(frames):
            mark = "→" if index == len(frames) - 1 else " "
            line = Text.styled(f" {mark} {plain(place)}", theme.SOURCE)
            page.line(line.append(f"  {plain(function)}", theme.NAME))
            page.line(Text.styled(plain(text), theme.STATEMENT), INDENT + 4)

    return PageRenderable(draw)


def render_text(lines: Sequence[str]) -> RenderableType:
    """Lines of plain text, wrapped.

    Args:
        lines: the lines.
    """

    def draw(page: Page) -> None:
        for line in lines:
            page.wrapped(Text(plain(line)))

    return PageRenderable(draw)


def render_pairs(pairs: Sequence[tuple[str, str]]) -> RenderableType:
    """Names and, at their right, what they mean.

    Args:
        pairs: the names with their meanings.
    """
    width = max((len(name) for name, _ in pairs), default=0)

    def draw(page: Page) -> None:
        for name, meaning in pairs:
            page.hanging(Text.styled(f"{plain(name):<{width}}  ", theme.NAME), Text(plain(meaning)))

    return PageRenderable(draw)


def render_table(table: CandidateList | CacheTable, shown: int) -> RenderableType:
    """A candidate list or a cache alone, without the card around it.

    Args:
        table: the table.
        shown: how many candidates are listed.
    """

    def draw(page: Page) -> None:
        if isinstance(table, CandidateList):
            draw_candidates(page, table, shown)
        else:
            draw_cache(page, table)

    return PageRenderable(draw)


def render_note(note: Note) -> RenderableType:
    """One note alone.

    Args:
        note: the note.
    """
    return PageRenderable(lambda page: draw_note(page, note))


def _draw_lines(page: Page, lines: Sequence[SourceLine], current: int) -> None:
    width = max((len(str(number)) for number, _ in lines), default=0)
    for number, text in lines:
        here = number == current
        line = Text.styled(
            f" {'→' if here else ' '} {number:>{width}}  ", theme.NUMBER if here else theme.QUIET
        )
        page.line(line.append(plain(text.replace("\t", "    ")), theme.STATEMENT if here else theme.QUIET))
