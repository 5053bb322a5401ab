"""Tokens as a person sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from reports.view.spelled_bytes import INCOMPLETE, completed, pending, spelled_bytes
from reports.view.text import visible, visible_bytes
from tracer.schema.run import TokenText

ENOUGH = 3
"""Tokens before the one that completes a character, at most: a character has four bytes."""

JOINS = "→"
"""Stands between the bytes of a token and the character that they complete."""


@dataclass(frozen=True)
class TokenView:
    """One token, its text made visible.

    Attributes:
        id: its id.
        text: what it decodes to, whitespace and invisible characters shown as marks, and bytes that are no
            whole character as ``⟨E8 AF⟩``; empty if unknown.
        piece: the tokenizer's own spelling, made visible.
        special: whether it is a special token.
        joined: in a sequence, the characters that its first bytes complete, together with those of the tokens
            before it; empty where it completes none.
    """

    id: int
    text: str
    piece: str
    special: bool = False
    joined: str = ""

    @property
    def label(self) -> str:
        """The text, and the tokenizer's spelling where the text alone says nothing."""
        if not self.text:
            return f"({self.piece})" if self.piece else ""
        if INCOMPLETE in self.text and self.piece != self.text:
            return f"{self.text} ({self.piece})"
        return f"{self.text}{JOINS}{self.joined}" if self.joined else self.text


def token_view(token: int, tokens: Mapping[int, TokenText]) -> TokenView:
    """A token with its text, if that is known.

    Args:
        token: its id.
        tokens: the texts that are known.
    """
    known = tokens.get(token)
    if known is None:
        return TokenView(token, "", "")
    raw = spelled_bytes(known)
    text = visible(known.text) if raw is None else visible_bytes(raw)
    return TokenView(token, text, visible(known.piece), known.special)


def token_views(ids: Iterable[int], tokens: Mapping[int, TokenText]) -> tuple[TokenView, ...]:
    """Several tokens, each alone.

    Args:
        ids: their ids.
        tokens: the texts that are known.
    """
    return tuple(token_view(int(token), tokens) for token in ids)


def unfinished(ids: Sequence[int], tokens: Mapping[int, TokenText]) -> bytes:
    """Bytes of an unfinished character at the end of a sequence.

    Args:
        ids: the sequence; its last :data:`ENOUGH` tokens are looked at.
        tokens: the texts that are known.
    """
    before = b""
    for token in ids[-ENOUGH:]:
        before = pending(before, tokens.get(int(token)))
    return before


def sequence_views(
    ids: Iterable[int], tokens: Mapping[int, TokenText], before: bytes = b""
) -> tuple[TokenView, ...]:
    """Tokens that follow one another: characters that are split over several are put together.

    Args:
        ids: their ids, in order.
        tokens: the texts that are known.
        before: bytes of an unfinished character at the end of what comes before them.
    """
    views = []
    for token in ids:
        view, known = token_view(int(token), tokens), tokens.get(int(token))
        whole = completed(before, known)
        views.append(replace(view, joined=visible(whole)) if whole else view)
        before = pending(before, known)
    return tuple(views)
