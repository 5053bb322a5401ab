"""Whether source lines in a trace are the library's own, which anyone can read in the installed package."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from tracer.schema.run import Anchor

_FILE = re.compile(r"transformers(?:/[A-Za-z_]\w*)+\.py")


def is_public_file(file: str) -> bool:
    """Whether a path names a file of the library.

    Args:
        file: path from the package root.
    """
    return _FILE.fullmatch(file) is not None


def is_public_source(anchor: Anchor) -> bool:
    """Whether everything that an anchor quotes stands at that place in the installed library.

    Args:
        anchor: the anchor.
    """
    lines = _lines(anchor.file) if is_public_file(anchor.file) else ()
    start = anchor.excerpt_start - 1
    quoted = lines[start : start + len(anchor.excerpt)] if start >= 0 else ()
    there = 0 < anchor.line <= len(lines) and lines[anchor.line - 1].strip() == anchor.text
    return there and quoted == anchor.excerpt


@lru_cache(maxsize=32)
def _lines(file: str) -> tuple[str, ...]:
    """Lines of a file of the library; finding it imports nothing of it."""
    found = find_spec("transformers")
    if found is None or found.origin is None:
        return ()
    try:
        text = (Path(found.origin).parent.parent / file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ()
    return tuple(text.splitlines())
