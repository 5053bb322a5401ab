"""What the commands on a recording share: which run, which token, torch only where it adds something."""

from __future__ import annotations

import dataclasses
import json
import math
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from tracer.errors import UsageError

if TYPE_CHECKING:
    from tracer.analysis.draw import Replayer
    from tracer.analysis.tokens_search import TokenChoice
    from tracer.tracefile import Recording, RunReading

_LISTED = 8
"""How many tokens that a text may mean are named."""


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
    """The token that a person means.

    Args:
        query: an id or a text.
        run: the run whose texts are known.

    Raises:
        UsageError: no token fits, or several do; they are listed.
    """
    from tracer.analysis.tokens_search import find_tokens, split_text

    found = find_tokens(query, run.tokens)
    if len(found) == 1:
        return found[0].id
    parts = () if found else split_text(query, run.tokens)
    choices = found or parts
    if choices:
        what = "may mean" if found else "is several tokens:"
        more = f" and {len(choices) - _LISTED} more" if len(choices) > _LISTED else ""
        raise UsageError(
            f"--token {query!r} {what} {_listed(choices[:_LISTED])}{more}; "
            f"choose one, e.g. --token id:{choices[0].id}."
        )
    raise UsageError(
        f"--token {query!r}: the recording mentions no token with this text. "
        "Name it by its id; texts are known only of tokens that were recorded."
    )


def _listed(choices: tuple[TokenChoice, ...]) -> str:
    return ", ".join(
        f"id:{choice.id}" if choice.text is None else f"id:{choice.id} {json.dumps(choice.text)}"
        for choice in choices
    )


def make_replayer(*, wanted: bool) -> Replayer | None:
    """Torch and transformers to repeat processors and draws; None where they are not wanted or absent.

    Args:
        wanted: whether the answer gains by it. Importing torch takes seconds.
    """
    if not wanted or find_spec("torch") is None:
        return None
    from hooks.replay import TorchReplayer

    return TorchReplayer()


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
