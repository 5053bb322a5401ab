"""Lines of text that fit a width: wrapping, flowing, aligned columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from reports.terminal.characters import printable

INDENT = 3
"""Cells by which everything below a heading is moved to the right."""

WIDEST = 132
"""Lines are no longer than this on wider terminals: longer ones are hard to read."""

_GAP = 2


@dataclass(frozen=True)
class Column:
    """One column of aligned cells.

    Attributes:
        cells: one text a row.
        heading: what the figures are; None in a table without headings.
        align: on which side the cells meet.
        rank: where space is short the column with the highest rank is left out first; 0 always stays.
        limit: cells wider than this are cut.
    """

    cells: Sequence[Text]
    heading: str | None = None
    align: Literal["left", "right"] = "left"
    rank: int = 0
    limit: int = 60

    @property
    def width(self) -> int:
        """Cells that the column needs."""
        widest = max((cell.cell_len for cell in self.cells), default=0)
        return min(self.limit, max(widest, len(self.heading or "")))


class Page:
    """Collects lines no wider than the terminal.

    Attributes:
        width: cells in a line.
        items: what has been added.
        in_card: something of the present card has been added.
    """

    def __init__(self, console: Console, width: int) -> None:
        self.width = width
        self.items: list[RenderableType] = []
        self.in_card = False
        self._console = console

    def another(self) -> Page:
        """An empty page of the same width: what it will hold can be counted before it is placed."""
        return Page(self._console, self.width)

    def add(self, item: RenderableType) -> None:
        """Add anything that rich can draw.

        Args:
            item: what to draw.
        """
        self.items.append(item)

    def blank(self) -> None:
        """Add an empty line."""
        self.line(Text())

    def gap(self) -> None:
        """Add an empty line before a part with a title, unless the part comes first on its card."""
        if self.in_card:
            self.blank()

    def line(self, text: Text, indent: int = 0) -> None:
        """Add one line; what does not fit is cut off with an ellipsis.

        Args:
            text: the line.
            indent: cells to leave free at the left.
        """
        line = Text(" " * indent, no_wrap=True, overflow="ellipsis", end="\n")
        line.append_text(text)
        line.rstrip()
        line.truncate(self.width, overflow="ellipsis")
        self.items.append(line)

    def wrapped(self, text: Text, indent: int = INDENT, hanging: int = 0) -> None:
        """Add a paragraph, broken between words.

        Args:
            text: the paragraph.
            indent: cells to leave free at the left.
            hanging: further cells to leave free from the second line on.
        """
        room = max(20, self.width - indent)
        lines = text.wrap(self._console, room, overflow="fold")
        if hanging and len(lines) > 1:
            first = lines[0]
            rest = text[len(first.plain) :]
            rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :]
            self.line(first, indent)
            self.wrapped(rest, indent + hanging)
            return
        for line in lines:
            self.line(line, indent)

    def hanging(self, label: Text, text: Text, indent: int = INDENT) -> None:
        """Add a label and, at its right, a paragraph that keeps clear of it.

        Args:
            label: precedes the first line.
            text: the paragraph.
            indent: cells to leave free at the left.
        """
        start = label.cell_len
        lines = text.wrap(self._console, max(20, self.width - indent - start), overflow="fold")
        self.line(label.append_text(lines[0]) if lines else label, indent)
        for line in lines[1:]:
            self.line(line, indent + start)

    def barred(self, text: Text, indent: int = INDENT) -> None:
        """Add a line of quoted text, a bar at its left, wrapped where it is too long.

        Args:
            text: the line.
            indent: cells to leave free at the left.
        """
        for line in text.wrap(self._console, max(20, self.width - indent - 2), overflow="fold"):
            self.line(Text.styled("│ ", "dim").append_text(line), indent)

    def flow(self, items: Iterable[Text], indent: int = INDENT, separator: str = "  ") -> None:
        """Add items one after the other; lines break only between them.

        Args:
            items: the items.
            indent: cells to leave free at the left.
            separator: goes between two items of a line.
        """
        room = self.width - indent
        line = Text()
        for item in items:
            if line.cell_len and line.cell_len + len(separator) + item.cell_len > room:
                self.line(line, indent)
                line = Text()
            if line.cell_len:
                line.append(separator, "dim")
            line.append_text(item)
        if line.cell_len:
            self.line(line, indent)

    def columns(self, columns: Sequence[Column], indent: int = INDENT) -> None:
        """Add aligned columns; columns of high rank are left out where space is short.

        Args:
            columns: the columns, all of one length.
            indent: cells to leave free at the left.
        """
        shown = self._fitting(columns, indent)
        if any(column.heading for column in shown):
            self._row([(Text.styled(column.heading or "", "dim"), column) for column in shown], indent)
        for cells in zip(*(column.cells for column in shown), strict=True):
            self._row(list(zip(cells, shown, strict=True)), indent)

    def fits(self, columns: Sequence[Column], indent: int = INDENT) -> bool:
        """Whether columns fit side by side.

        Args:
            columns: the columns.
            indent: cells to leave free at the left.
        """
        return sum(column.width + _GAP for column in columns) - _GAP <= self.width - indent

    def _fitting(self, columns: Sequence[Column], indent: int) -> list[Column]:
        """The columns with any text, those of the highest rank left out until the others fit."""
        shown = [column for column in columns if any(cell.plain for cell in column.cells)]
        while not self.fits(shown, indent):
            last = max(shown, key=lambda column: column.rank)
            if last.rank == 0:
                break
            shown.remove(last)
        return shown

    def _row(self, cells: Sequence[tuple[Text, Column]], indent: int) -> None:
        line = Text()
        for cell, column in cells:
            if line.plain:
                line.append(" " * _GAP)
            fitted = cell.copy()
            fitted.truncate(column.width, overflow="ellipsis")
            fitted.align(column.align, column.width)
            line.append_text(fitted)
        self.line(line, indent)


class PageRenderable:
    """Draws a page when the width is known.

    Attributes:
        draw: fills the page.
    """

    def __init__(self, draw: Callable[[Page], None]) -> None:
        self.draw = draw

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        page = Page(console, min(options.max_width, WIDEST))
        self.draw(page)
        for item in page.items:
            yield from printable(console.render(item, options), options.encoding)
