"""Resolve which token a user means during a run: any of the vocabulary, not only recorded ones."""

from __future__ import annotations

import json

from tracer.analysis.token_search import ambiguous, find_tokens
from tracer.errors import UsageError
from tracer.halting.live_run import LiveRun
from tracer.stepper.commands import parse_token


def token_and_row(argument: str, live: LiveRun) -> tuple[int, int | None]:
    """The token and the row that ``TOKEN`` or ``TOKEN row N`` means.

    Args:
        argument: the argument as typed.
        live: the run, whose tokenizer looks up texts.

    Returns:
        The token's id, and the row; None for all rows.

    Raises:
        UsageError: no token matches, or several do, which are listed; or there is no such row.
    """
    assert live.header is not None
    query, row = parse_token(argument, len(live.header.prompt))
    return _resolve(query, live, vocabulary=live.header.model.vocab_size or 0), row


def token_label(token: int, live: LiveRun) -> str:
    """A token's text and id.

    Args:
        token: id of the token.
        live: the run.
    """
    text = live.tokens.get(token)
    if text is None or not text.spelled:
        return f"token {token}"
    return f"{json.dumps(text.text, ensure_ascii=False)} ({token})"


def _resolve(query: str, live: LiveRun, *, vocabulary: int) -> int:
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
