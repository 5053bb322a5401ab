"""The library's source line at which a stop happens."""

from __future__ import annotations

from urllib.parse import quote

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import ControlType, Segment
from rich.text import Text

from reports.terminal import theme
from reports.terminal.page import INDENT, Page
from tracer.schema.run import Anchor

_NO_WIDTH = [(ControlType.CARRIAGE_RETURN,)]
"""Marks a segment as control codes, which take no room in a line; rich writes the segment's text."""


def draw_source(page: Page, anchor: Anchor) -> None:
    """Add place and statement: on one line where they fit, the folders left out where that helps.

    Args:
        page: where to add them.
        anchor: the source line.
    """
    statement = Text.styled(anchor.text[:200], theme.STATEMENT)
    room = page.width - INDENT - 2 - statement.cell_len
    places = [f"{name}:{anchor.line}" for name in _names(anchor.file[:200])]
    place = next((place for place in places if len(place) <= room), None)
    if place is not None:
        page.add(_Linked(place, statement, anchor.path))
        return
    page.add(_Linked(places[0] if len(places[0]) <= page.width - INDENT else places[-1], None, anchor.path))
    page.wrapped(statement, INDENT + 2, hanging=4)


def _names(file: str) -> tuple[str, str]:
    """The file below its package, and its name alone."""
    below = file.split("/", 1)[-1]
    return below, file.rsplit("/", 1)[-1]


class _Linked:
    """A place that terminals with OSC 8 show as a link, and the statement behind it.

    The link is written as control codes: rich's own link style takes a number from Python's random
    generator, and a report must not move a generator that the traced program may use.
    """

    def __init__(self, place: str, statement: Text | None, path: str) -> None:
        self._place = place
        self._statement = statement
        self._uri = "file://" + quote(path)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        links = console.is_terminal and console.color_system is not None and not console.legacy_windows
        yield Segment(" " * INDENT)
        if links:
            yield Segment(f"\x1b]8;;{self._uri}\x1b\\", None, _NO_WIDTH)
        yield Segment(self._place, console.get_style(theme.SOURCE))
        if links:
            yield Segment("\x1b]8;;\x1b\\", None, _NO_WIDTH)
        if self._statement is not None:
            yield Segment("  ")
            yield Segment(self._statement.plain, console.get_style(theme.STATEMENT))
        yield Segment.line()
