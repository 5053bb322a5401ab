"""The few styles that everything is drawn with; each is a plain rich style definition."""

from __future__ import annotations

from typing import Final

from reports.view.blocks import Level

TITLE: Final = "bold"
NUMBER: Final = "bold cyan"
RULE: Final = "dim"
SOURCE: Final = "cyan"
STATEMENT: Final = ""
LABEL: Final = "dim"
NAME: Final = "cyan"
VALUE: Final = ""
QUIET: Final = "dim"
PIECE: Final = "green"
SPECIAL: Final = "magenta"
CHOSEN: Final = "bold green"
BAR: Final = "blue"
REMOVED: Final = "red"
CHANGED: Final = "yellow"
BAD: Final = "bold red"

LEVELS: Final[dict[Level, tuple[str, str]]] = {
    "explain": ("", "dim"),
    "fact": ("", ""),
    "ok": ("✓ ", "green"),
    "warning": ("! ", "yellow"),
    "error": ("✗ ", BAD),
}
"""Sign and style of a note by its level."""
