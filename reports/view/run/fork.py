"""Where a run branched off another, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reports.view.text import plain
from tracer.schema.choice import named_token
from tracer.schema.fork import ForkOrigin
from tracer.schema.run import TokenText


def fork_text(origin: ForkOrigin, tokens: Mapping[int, TokenText]) -> str:
    """Which run a fork repeats up to where, and what it does there.

    Args:
        origin: from the fork's header.
        tokens: the token texts that are known.
    """
    where = "" if origin.trace is None else f" of {plain(origin.trace)}"
    return f"forked from run {origin.run}{where} at step {origin.step}: {changes_text(origin, tokens)}"


def changes_text(origin: ForkOrigin, tokens: Mapping[int, TokenText]) -> str:
    """What a fork does otherwise than its parent.

    Args:
        origin: from the fork's header.
        tokens: the token texts that are known.
    """
    return ", ".join(_changes(origin, tokens)) or "unchanged"


def _changes(origin: ForkOrigin, tokens: Mapping[int, TokenText]) -> Iterator[str]:
    row = "" if not origin.row else f" in row {origin.row}"
    if origin.token is not None:
        yield f"chose {_token(origin.token, tokens)}{row}"
    for token in origin.banned:
        yield f"not {_token(token, tokens)}{row}"
    for name, value in origin.settings.items():
        yield f"{plain(name)} {plain(value)}"
    if origin.seed is not None:
        yield f"seed {origin.seed}"


def _token(token: int, tokens: Mapping[int, TokenText]) -> str:
    text = tokens[token].text if token in tokens else ""
    return plain(named_token(token, text or None))
