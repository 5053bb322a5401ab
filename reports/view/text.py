"""Text from outside made harmless and visible: a token is hostile input."""

from __future__ import annotations

import re
import unicodedata

from tracer.harmless_text import escaped

MARKS = {" ": "␣", "\n": "⏎", "\r": "␍", "\t": "⇥"}
"""Whitespace that a token may consist of, and the mark that replaces it."""

_COMBINING = frozenset({"Mn", "Me", "Mc"})
_DOTTED_CIRCLE = "◌"
_STRAY = re.compile("([\udc80-\udcff]+)")
"""Bytes that are no character, as Python's ``surrogateescape`` writes them."""


def visible(text: str, limit: int = 256) -> str:
    r"""Token text in which nothing is hidden and nothing acts on a terminal.

    Whitespace shows as a mark, everything invisible as an escape (``\x1b``, ``\u202e``), a leading
    combining character sits on a dotted circle.

    Args:
        text: any text.
        limit: longer texts are cut, and how much was cut is said.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text.replace(" ", MARKS[" "])  # nearly every token, and a hundred times as fast
    cut = text[:limit]
    start = _DOTTED_CIRCLE if cut and unicodedata.category(cut[0]) in _COMBINING else ""
    shown = start + "".join(MARKS.get(char) or escaped(char) for char in cut)
    return shown if len(text) <= limit else f"{shown}… (+{len(text) - limit:,} characters)"


def visible_bytes(data: bytes, limit: int = 256) -> str:
    """Bytes as text where they are characters, the others in hexadecimal: ``⟨E8 AF⟩``.

    Args:
        data: the bytes of a token.
        limit: longer ones are cut, and how much was cut is said.
    """
    text = data[:limit].decode("utf-8", errors="surrogateescape")
    parts = _STRAY.split(text)  # text and stray bytes take turns
    shown = "".join(_hexadecimal(part) if place % 2 else visible(part) for place, part in enumerate(parts))
    return shown if len(data) <= limit else f"{shown}… (+{len(data) - limit:,} bytes)"


def _hexadecimal(stray: str) -> str:
    return f"⟨{stray.encode('utf-8', errors='surrogateescape').hex(' ').upper()}⟩"


def plain(text: str, limit: int = 4096) -> str:
    """One line of ordinary text (a setting, a message, a path): spaces stay, line breaks become marks.

    Args:
        text: any text.
        limit: longer texts are cut.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    shown = "".join(char if char == " " else MARKS.get(char) or escaped(char) for char in text[:limit])
    return shown if len(text) <= limit else f"{shown}… (+{len(text) - limit:,} characters)"


def plain_lines(text: str) -> str:
    """Text of several lines (a prompt, an answer, a module tree): line breaks and spaces stay.

    Args:
        text: any text; tabs become four spaces.
    """
    lines = text.replace("\r\n", "\n").replace("\t", "    ").split("\n")
    return "\n".join(plain(line, limit=1_000_000) for line in lines)
