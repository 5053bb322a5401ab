"""Find the token that a user means during a run: any of the vocabulary, not only recorded ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tracer.analysis.token_search import ambiguous, find_tokens
from tracer.errors import UsageError

if TYPE_CHECKING:
    from tracer.halting.live_run import LiveRun


def find_token(query: str, live: LiveRun) -> int:
    """The id of the token that a text, a text in double quotes or ``id:N`` means.

    Args:
        query: what the user wrote.
        live: the run, whose tokenizer looks up texts.

    Raises:
        UsageError: no token matches, or several do, which are listed.
    """
    assert live.header is not None
    vocabulary = live.header.model.vocab_size or 0
    live.look_up([_bare(query)])
    found = find_tokens(query, live.tokens)
    if not found:
        raise UsageError(f"{query[:60]!r} is no single token; name it by its id, e.g. id:42.")
    if len(found) > 1:
        raise ambiguous(query, found)
    token = found[0].id
    if not 0 <= token < vocabulary:
        raise UsageError(f"There is no token {token}; the vocabulary has {vocabulary}.")
    live.learn(token)
    return token


def _bare(query: str) -> str:
    """The text of a query, without its quotes."""
    if len(query) > 1 and query[0] == query[-1] == '"':
        try:
            return str(json.loads(query))
        except ValueError:
            return query[1:-1]
    return query
