"""Tables of a step that stepper commands print, of a run in progress or of a recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from rich.console import RenderableType

from reports.terminal.halt import render_table
from reports.view.stops.cache import cache_table
from reports.view.stops.candidates import candidate_list
from reports.view.stops.context import Context
from tracer.errors import UsageError
from tracer.schema.run import RunHeader, TokenText
from tracer.schema.step import Step

CacheMoment = Literal["before", "after the forward pass of", "after"]
"""When in relation to a step; the norms of the new slots are known after it."""


def cache_of(step: Step, when: CacheMoment) -> RenderableType:
    """The KV cache at a moment of a step.

    Args:
        step: the step.
        when: the moment.
    """
    state = step.head.cache_before if when == "before" else step.head.cache_after
    written = step.cache if when == "after" else None
    return render_table(
        cache_table(f"{step.head.inputs.cache_name} {when} step {step.number}", state, written), 0
    )


def best_of(
    header: RunHeader, step: Step, tokens: Mapping[int, TokenText], count: int, row: int
) -> RenderableType:
    """The most probable tokens by the scores of a step so far.

    Args:
        header: the run's header.
        step: the step, as far as it has come.
        tokens: the token texts that are known.
        count: number of tokens.
        row: row of the batch.

    Raises:
        UsageError: the step has no scores.
    """
    if step.scores is None:
        raise UsageError("This step has no scores yet; n goes on.")
    found = candidate_list(Context(header, step, tokens, row), step.scores)
    return render_table(replace(found, title=f"best of step {step.number}"), count)


def short_path(path: str) -> str:
    """The end of a path: from the package on, or the folder and the file.

    Args:
        path: the path.
    """
    parts = path.replace("\\", "/").split("/")
    if "site-packages" in parts:
        return "/".join(parts[parts.index("site-packages") + 1 :])
    return "/".join(parts[-2:])
