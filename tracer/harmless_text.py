"""Characters that act on a terminal or show nothing there, as escapes that a person can read."""

from __future__ import annotations

import unicodedata

_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and signs that show nothing."""


def escaped(char: str) -> str:
    r"""One character; an escape such as ``\x1b`` or ``\u202e`` if it acts, hides or is no plain space.

    Args:
        char: the character.
    """
    category = unicodedata.category(char)
    if category in _UNSAFE or char in _BLANK or (category == "Zs" and char != " "):
        code = ord(char)
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return char


def harmless(text: str, keep: str = "") -> str:
    """A text that does nothing to a terminal but to show on it.

    Args:
        text: anything: a path, a message of a library, what a model wrote.
        keep: characters that stay as they are, such as line breaks.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char in keep else escaped(char) for char in text)
