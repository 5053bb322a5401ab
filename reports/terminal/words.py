"""Small pieces of styled text."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from reports.terminal import theme
from reports.view.tokens import TokenView

_EIGHTHS = " ▏▎▍▌▋▊▉"
TOKEN_CELLS = 24


def token_text(token: TokenView, limit: int = TOKEN_CELLS) -> Text:
    """A token's text, never as markup.

    Args:
        token: the token.
        limit: longer texts are cut.
    """
    text = Text.styled(token.label, theme.SPECIAL if token.special else theme.PIECE)
    text.truncate(limit, overflow="ellipsis")
    return text


def token_with_id(token: TokenView, limit: int = TOKEN_CELLS) -> Text:
    """A token as ``32 A``.

    Args:
        token: the token.
        limit: longer texts are cut.
    """
    text = Text.styled(str(token.id), theme.QUIET)
    return text.append(" ").append_text(token_text(token, limit)) if token.label else text


def class_with_settings(name: str, settings: Sequence[str]) -> Text:
    """A class with its settings: ``TopKLogitsWarper  top_k=20``.

    Args:
        name: the class.
        settings: ``name=value`` texts.
    """
    return Text.styled(name, theme.NAME).append("".join(f"  {item}" for item in settings), theme.VALUE)


def bar(share: float, width: int) -> Text:
    """A horizontal bar; anything above zero is visible.

    Args:
        share: from 0 to 1.
        width: cells of a full bar.
    """
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    if share > 0:
        eighths = max(1, eighths)
    full, rest = divmod(eighths, 8)
    return Text.styled("█" * full + (_EIGHTHS[rest] if rest else ""), theme.BAR)


def joined(parts: Sequence[Text], separator: str = " · ") -> Text:
    """Texts with a quiet separator between them.

    Args:
        parts: the texts.
        separator: what goes between them.
    """
    return Text.styled(separator, theme.QUIET).join(parts)
