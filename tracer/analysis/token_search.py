"""Find the token that a person means."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tracer.errors import UsageError
from tracer.schema.run import TokenText

Match = Literal["id", "text", "text with a space before", "text with a space around", "piece", "other case"]

_ORDER: tuple[Match, ...] = (
    "id",
    "text",
    "text with a space before",
    "text with a space around",
    "piece",
    "other case",
)

_LISTED = 8
"""How many tokens that a text may mean are named."""


@dataclass(frozen=True)
class TokenChoice:
    """One token that a query may mean.

    Attributes:
        id: the token.
        text: its text; None if the recording does not know the id.
        piece: the tokenizer's own spelling; None likewise.
        match: how it fits the query.
    """

    id: int
    text: str | None
    piece: str | None
    match: Match


def find_tokens(query: str, tokens: Mapping[int, TokenText]) -> tuple[TokenChoice, ...]:
    r"""All tokens that a query may mean, best match first; more than one means: ask.

    Args:
        query: an id (``42``; ``id:42`` if nothing else shall be meant), a text (``Large`` finds ``Large`` and
            `` Large``), a text in double quotes (``" Large"`` finds nothing but itself, with the escapes of
            JSON: ``"\n"``), or the tokenizer's own spelling (``ĠLarge``).
        tokens: texts of the recording.

    Returns:
        Choices; empty if nothing fits. Other upper and lower case is tried only if nothing else fits. An id
        that the recording has no text for is a choice too.
    """
    if not query:
        return ()
    found: list[TokenChoice] = []
    number = query.removeprefix("id:").strip()
    if number.isascii() and number.isdigit():
        found.append(_choice(int(number), tokens.get(int(number)), "id"))
        if query.startswith("id:"):
            return tuple(found)
    quoted = _quoted(query)
    folded: list[TokenChoice] = []
    for token in tokens.values():
        match = _match(query, quoted, token)
        if match is not None:
            found.append(_choice(token.id, token, match))
        elif quoted is None and query.strip() and token.text.strip().casefold() == query.strip().casefold():
            folded.append(_choice(token.id, token, "other case"))
    ordered = sorted(found or folded, key=lambda choice: (_ORDER.index(choice.match), choice.id))
    best: dict[int, TokenChoice] = {}
    for choice in ordered:
        best.setdefault(choice.id, choice)
    return tuple(best.values())


def one_token(query: str, tokens: Mapping[int, TokenText]) -> int:
    """The token that a query means.

    Args:
        query: see :func:`find_tokens`.
        tokens: texts of the recording.

    Raises:
        UsageError: no token fits, or several do; they are listed.
    """
    found = find_tokens(query, tokens)
    if len(found) == 1:
        return found[0].id
    choices = found or split_text(query, tokens)
    if choices:
        what = "may mean" if found else "is several tokens:"
        more = f" and {len(choices) - _LISTED} more" if len(choices) > _LISTED else ""
        raise UsageError(
            f"{query!r} {what} {_listed(choices[:_LISTED])}{more}; choose one, e.g. id:{choices[0].id}."
        )
    raise UsageError(
        f"{query!r}: the recording mentions no token with this text. "
        "Name it by its id; texts are known only of tokens that were recorded."
    )


def _listed(choices: Sequence[TokenChoice]) -> str:
    return ", ".join(
        f"id:{choice.id}" if choice.text is None else f"id:{choice.id} {json.dumps(choice.text)}"
        for choice in choices
    )


def split_text(query: str, tokens: Mapping[int, TokenText]) -> tuple[TokenChoice, ...]:
    """A text that is no token alone as a sequence of tokens, the longest first.

    The tokenizer itself may split the text elsewhere: the recording knows only the texts that it mentions.

    Args:
        query: the text.
        tokens: texts of the recording.

    Returns:
        The tokens in order; empty if the texts of the recording do not make up this one.
    """
    by_text: dict[str, TokenText] = {}
    for token in tokens.values():
        if token.text and query.find(token.text) >= 0:
            by_text.setdefault(token.text, token)
    # From each place, the tokens that lead to the end; found from the back.
    ways: dict[int, tuple[TokenText, ...]] = {len(query): ()}
    for place in range(len(query) - 1, -1, -1):
        fitting = [text for text in by_text if query.startswith(text, place) and place + len(text) in ways]
        if fitting:
            longest = max(fitting, key=len)
            ways[place] = (by_text[longest], *ways[place + len(longest)])
    return tuple(_choice(token.id, token, "text") for token in ways.get(0, ()))


def _choice(number: int, token: TokenText | None, match: Match) -> TokenChoice:
    return TokenChoice(number, token.text if token else None, token.piece if token else None, match)


def _quoted(query: str) -> str | None:
    """The text between double quotes; None without them."""
    if len(query) < 2 or query[0] != '"' or query[-1] != '"':
        return None
    try:
        text = json.loads(query)
    except ValueError:
        return query[1:-1]
    return str(text)


def _match(query: str, quoted: str | None, token: TokenText) -> Match | None:
    if quoted is not None:
        return "text" if token.text == quoted else None
    if token.text == query:
        return "text"
    if token.text == f" {query}":
        return "text with a space before"
    if query.strip() and token.text.strip() == query.strip():
        return "text with a space around"
    return "piece" if token.piece == query else None
