"""What a terminal would show, as a piece of HTML for a notebook: bold and quiet text, all of it escaped."""

from __future__ import annotations

import io
from collections.abc import Iterator
from html import escape

from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.text import Text

from reports.view.text import plain

WIDTH = 100
"""Columns of a card."""

_STYLE = (
    "margin: 0; padding: 0.5em 0; line-height: 1.35; overflow-x: auto; white-space: pre; background: none"
)


def as_html(*items: RenderableType) -> str:
    """A card of a notebook.

    Args:
        items: what a terminal would show, in order; a string is one line.
    """
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False, markup=False)
    shown = [Text(plain(item)) if isinstance(item, str) else item for item in items]
    segments = (part for item in shown for part in console.render(item, console.options))
    body = "".join(_html(part) for part in Segment.remove_color(segments) if part.control is None)
    return f'<pre style="{_STYLE}">{"".join(_trimmed(body))}</pre>'


def _html(segment: Segment) -> str:
    text, style = escape(segment.text), segment.style
    if style is not None and style.bold:
        text = f"<strong>{text}</strong>"
    if style is not None and style.dim:
        text = f'<span style="opacity: 0.65">{text}</span>'
    return text


def _trimmed(body: str) -> Iterator[str]:
    """Lines without space at their ends, and without empty ones at the beginning."""
    lines = body.strip("\n").split("\n")
    for place, line in enumerate(lines):
        yield line.rstrip() + ("\n" if place < len(lines) - 1 else "")
