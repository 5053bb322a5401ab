"""Tokens as a person sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reports.view.text import visible
from tracer.schema.run import TokenText

_INCOMPLETE = "\ufffd"


@dataclass(frozen=True)
class TokenView:
    """One token, its text made visible.

    Attributes:
        id: its id.
        text: what it decodes to, whitespace and invisible characters shown as marks; empty if unknown.
        piece: the tokenizer's own spelling, made visible.
        special: whether it is a special token.
    """

    id: int
    text: str
    piece: str
    special: bool = False

    @property
    def label(self) -> str:
        """The text, and the tokenizer's spelling where the text alone says nothing."""
        if not self.text:
            return f"({self.piece})" if self.piece else ""
        return f"{self.text} ({self.piece})" if _INCOMPLETE in self.text and self.piece else self.text


def token_view(token: int, tokens: Mapping[int, TokenText]) -> TokenView:
    """A token with its text, if that is known.

    Args:
        token: its id.
        tokens: the texts that are known.
    """
    known = tokens.get(token)
    if known is None:
        return TokenView(token, "", "")
    return TokenView(token, visible(known.text), visible(known.piece), known.special)


def token_views(ids: Iterable[int], tokens: Mapping[int, TokenText]) -> tuple[TokenView, ...]:
    """Several tokens, in order.

    Args:
        ids: their ids.
        tokens: the texts that are known.
    """
    return tuple(token_view(int(token), tokens) for token in ids)
