"""What the commands on a recording share: which run, which token, and how an object is printed."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

import click

from tracer.errors import UsageError

if TYPE_CHECKING:
    from tracer.tracefile import Recording, RunReading


def the_run(recording: Recording, number: int | None, option: str = "--run") -> RunReading:
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


def the_token(query: str, run: RunReading) -> int:
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
    click.echo(json.dumps(_document(value), ensure_ascii=False))


def _document(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _document(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return _document(value.model_dump())
    if isinstance(value, dict):
        return {str(key): _document(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return _document(value.tolist())
    if isinstance(value, list | tuple):
        return [_document(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
