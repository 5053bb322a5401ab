"""What may be written to a terminal: nothing that acts on it, nothing that its encoding lacks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment

_PLAIN = {
    "─": "-",
    "━": "=",
    "│": "|",
    "█": "#",
    "▉": "#",
    "▊": "#",
    "▋": "#",
    "▌": "#",
    "▍": "-",
    "▎": "-",
    "▏": "-",
    "…": "~",
    "·": "-",
    "→": ">",
    "✓": "+",
    "✗": "x",
    "\u2013": "-",
    "\u00d7": "x",
    "␣": "_",
    "⏎": "$",
    "␍": "$",
    "⇥": ">",
    "◌": "o",
    "►": ">",
    "⟨": "<",
    "⟩": ">",
}


_ACTING = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def printable(segments: Iterable[Segment], encoding: str) -> Iterator[Segment]:
    """Segments with every character replaced that would act on the terminal or cannot be encoded.

    Views hold only text that has been made visible; this is the second fence, for what a damaged or
    hostile trace may carry in a dtype, a device or a digest. Replacements keep the width.

    Args:
        segments: what is to be printed.
        encoding: the output's encoding.
    """
    complete = encoding.lower().startswith("utf")
    for text, style, control in segments:
        if control is not None:
            yield Segment(text, style, control)
            continue
        safe = _ACTING.sub("?", text)
        if not complete:
            safe = "".join(_replaced(char, encoding) for char in safe)
        yield Segment(safe, style)


@lru_cache(maxsize=4096)
def _replaced(char: str, encoding: str) -> str:
    try:
        char.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return _PLAIN.get(char, "?" * cell_len(char))
    return char
