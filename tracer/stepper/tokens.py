"""The token and the row that a command means, and how a token is called."""

from __future__ import annotations

import json

from tracer.halting.live_run import LiveRun
from tracer.halting.vocabulary import find_token
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
    return find_token(query, live), row


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
