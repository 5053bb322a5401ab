"""Bytes of tokens that are no whole characters, read from the tokenizer's spelling.

A vocabulary of bytes splits a character that is rare over several tokens. What each decodes to alone is
U+FFFD, which says nothing; its spelling names the bytes: in the alphabet of GPT-2, where each byte has a
letter (``è¯``), or one by one as SentencePiece does (``<0xE8>``).
"""

from __future__ import annotations

import re
from functools import lru_cache

from tracer.schema.run import TokenText

INCOMPLETE = "\ufffd"
"""What an incomplete sequence of bytes decodes to."""

_ONE_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_LONGEST = 4
"""Bytes of the longest character in UTF-8."""


def _alphabet() -> dict[str, int]:
    """GPT-2's letter for each byte: itself where it can be seen, else the next letter from U+0100 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {chr(byte): byte for byte in seen}
    unseen = (byte for byte in range(0x100) if byte not in seen)
    return letters | {chr(0x100 + place): byte for place, byte in enumerate(unseen)}


_LETTERS = _alphabet()


def spelled_bytes(token: TokenText) -> bytes | None:
    """The bytes of a token that is not text by itself; None for any other, or where they are not known.

    Args:
        token: the token.
    """
    return None if INCOMPLETE not in token.text else _bytes_of(token.piece)


@lru_cache(maxsize=4096)
def _bytes_of(piece: str) -> bytes | None:
    one = _ONE_BYTE.fullmatch(piece)
    if one is not None:
        return bytes([int(one[1], 16)])
    letters = [_LETTERS.get(letter) for letter in piece]
    return None if None in letters or not letters else bytes(byte for byte in letters if byte is not None)


def pending(before: bytes, token: TokenText | None) -> bytes:
    """The bytes of an unfinished character at the end of a sequence.

    Args:
        before: those at the end of what comes before the token.
        token: the last token; None where its text is not known.
    """
    found = None if token is None else spelled_bytes(token)
    if found is None:
        return b""
    whole = before + found
    for size in range(min(_LONGEST - 1, len(whole)), 0, -1):
        if _begins_character(whole[-size:]):
            return whole[-size:]
    return b""


def completed(before: bytes, token: TokenText | None) -> str:
    """The character that the first bytes of a token complete, with all that follows it; empty if none.

    Args:
        before: bytes of an unfinished character at the end of what comes before the token.
        token: the token; None where its text is not known.
    """
    found = None if token is None or not before else spelled_bytes(token)
    if found is None:
        return ""
    whole = before + found
    rest = pending(before, token)
    try:
        return whole[: len(whole) - len(rest)].decode("utf-8")
    except UnicodeDecodeError:
        return ""


def _begins_character(data: bytes) -> bool:
    """Whether bytes are the beginning of one character in UTF-8, which more bytes may complete."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start == 0 and error.reason == "unexpected end of data"
    return False
