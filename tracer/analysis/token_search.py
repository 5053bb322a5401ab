"""Find the token that a user's query means: by id, by text or by the tokenizer's spelling."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tracer.errors import UsageError
from tracer.schema.run import TokenText

Match = Literal["id", "text", "text with a space before", "text with a space around", "piece", "other case"]
"""How a token matches a query, best first."""

_MAX_LISTED = 8
"""Ambiguous tokens that an error message lists."""


@dataclass(frozen=True)
class TokenChoice:
    """A token that a query may mean.

    Attributes:
        id: the token's id.
        text: its text; None if the recording has no text for the id, or the tokenizer cannot spell it.
        piece: the tokenizer's own spelling; None likewise.
        match: how it matches the query.
    """

    id: int
    text: str | None
    piece: str | None
    match: Match


def find_tokens(query: str, tokens: Mapping[int, TokenText]) -> tuple[TokenChoice, ...]:
    r"""All tokens that a query may mean, best match first; with more than one, the query is ambiguous.

    Args:
        query: an id (``42``; ``id:42`` to exclude any other reading), a text (``Large`` finds ``Large`` and
            `` Large``), a text in double quotes (``" Large"`` finds only itself, with the escapes of
            JSON: ``"\n"``), or the tokenizer's own spelling (``ĠLarge``).
        tokens: texts of the recording.

    Returns:
        Choices; empty if nothing matches. Case is ignored only if nothing matches otherwise. An id that the
        recording has no text for is a choice too.
    """
    if not query:
        return ()
    found = _by_id(query, tokens)
    if found and query.startswith("id:"):
        return tuple(found)
    found += _by_text(query, tokens)
    order = get_args(Match)
    ranked = sorted(
        found or _ignoring_case(query, tokens), key=lambda choice: (order.index(choice.match), choice.id)
    )
    best: dict[int, TokenChoice] = {}
    for choice in ranked:
        best.setdefault(choice.id, choice)
    return tuple(best.values())


def _by_id(query: str, tokens: Mapping[int, TokenText]) -> list[TokenChoice]:
    """The token whose id the query is, if it is a number."""
    number = query.removeprefix("id:").strip()
    if not (number.isascii() and number.isdigit()):
        return []
    return [_choice(int(number), tokens.get(int(number)), "id")]


def _by_text(query: str, tokens: Mapping[int, TokenText]) -> list[TokenChoice]:
    """Tokens whose text or spelling the query is."""
    quoted = _quoted(query)
    matches = ((token, _match(query, quoted, token)) for token in tokens.values())
    return [_choice(token.id, token, match) for token, match in matches if match is not None]


def _ignoring_case(query: str, tokens: Mapping[int, TokenText]) -> list[TokenChoice]:
    """Tokens whose text is the query but for case and surrounding white space."""
    wanted = query.strip().casefold()
    if not wanted or _quoted(query) is not None:
        return []
    return [
        _choice(token.id, token, "other case")
        for token in tokens.values()
        if token.text.strip().casefold() == wanted
    ]


def one_token(query: str, tokens: Mapping[int, TokenText]) -> int:
    """The id of the only token that a query can mean.

    Args:
        query: see :func:`find_tokens`.
        tokens: texts of the recording.

    Raises:
        UsageError: no token matches, or several do; the message lists them.
    """
    found = find_tokens(query, tokens)
    if len(found) == 1:
        return found[0].id
    if found:
        raise ambiguous(query, found)
    parts = split_text(query, tokens)
    if parts:
        raise ambiguous(query, parts, "is several tokens:")
    raise UsageError(
        f"{query!r}: the recording mentions no token with this text. "
        "Name it by its id; texts are known only of tokens that were recorded."
    )


def ambiguous(query: str, choices: Sequence[TokenChoice], what: str = "may mean") -> UsageError:
    """The error that asks which of several tokens is meant.

    Args:
        query: what was asked for.
        choices: the tokens.
        what: how they are related to the query.
    """
    more = f" and {len(choices) - _MAX_LISTED} more" if len(choices) > _MAX_LISTED else ""
    return UsageError(
        f"{query!r} {what} {_listed(choices[:_MAX_LISTED])}{more}; choose one, e.g. id:{choices[0].id}."
    )


def _listed(choices: Sequence[TokenChoice]) -> str:
    return ", ".join(
        f"id:{choice.id}" if choice.text is None else f"id:{choice.id} {json.dumps(choice.text)}"
        for choice in choices
    )


def split_text(query: str, tokens: Mapping[int, TokenText]) -> tuple[TokenChoice, ...]:
    """Split a text that is not a single token into tokens, preferring the longest at each position.

    The tokenizer itself may split the text differently: only tokens that the recording mentions are known.

    Args:
        query: the text.
        tokens: texts of the recording.

    Returns:
        The tokens in order; empty if the known tokens cannot spell the text.
    """
    by_text: dict[str, TokenText] = {}
    for token in tokens.values():
        if token.text and query.find(token.text) >= 0:
            by_text.setdefault(token.text, token)
    # For each position, the tokens from there to the end; filled from the back.
    tails: dict[int, tuple[TokenText, ...]] = {len(query): ()}
    for place in range(len(query) - 1, -1, -1):
        fitting = [text for text in by_text if query.startswith(text, place) and place + len(text) in tails]
        if fitting:
            longest = max(fitting, key=len)
            tails[place] = (by_text[longest], *tails[place + len(longest)])
    return tuple(_choice(token.id, token, "text") for token in tails.get(0, ()))


def _choice(number: int, token: TokenText | None, match: Match) -> TokenChoice:
    if token is None or not token.spelled:
        return TokenChoice(number, None, None, match)
    return TokenChoice(number, token.text, token.piece, match)


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
