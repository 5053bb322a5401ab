"""What the commands on a recording share: which run, which token, and how an object is printed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from tracer.errors import UsageError
from tracer.json_values import json_ready

if TYPE_CHECKING:
    from tracer.tracefile import TraceFile, TraceRun


def the_run(recording: TraceFile, number: int | None, option: str = "--run") -> TraceRun:
    """The run that is meant.

    Args:
        recording: an open trace.
        number: what the option says; None where there is one run only.
        option: its name.

    Raises:
        UsageError: there is no such run, or several and none is named.
    """
    if number is not None:
        return recording.run(number)
    runs = recording.runs
    if len(runs) > 1:
        raise UsageError(
            f"{recording.path} holds {len(runs)} runs; choose one with {option} 1 … {len(runs)}."
        )
    if not runs:
        raise UsageError(f"{recording.path} holds no run: it ended before a generation began.")
    return runs[0]


def the_token(query: str, run: TraceRun) -> int:
    """The token that ``--token`` means.

    Args:
        query: an id or a text.
        run: the run whose texts are known.

    Raises:
        UsageError: no token fits, or several do; they are listed.
    """
    from tracer.analysis.token_search import one_token

    try:
        return one_token(query, run.tokens)
    except UsageError as error:
        raise UsageError(f"--token {error}") from None


def print_json(value: object) -> None:
    """Print a report as one JSON object.

    Args:
        value: dataclasses, records and plain values; numbers that JSON lacks become text.
    """
    click.echo(json.dumps(json_ready(value), ensure_ascii=False))
