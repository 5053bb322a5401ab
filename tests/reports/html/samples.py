"""Traces and pages for the tests of the HTML report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reports.html import render_comparison
from reports.view.questions.comparison import comparison_view
from tests.support.synthetic import synthetic_end, synthetic_header, synthetic_steps, synthetic_tokens
from tests.tracer.analysis.runs import MemoryRun
from tracer.analysis.diff import diff
from tracer.reading import open_trace
from tracer.schema.fork import ForkOrigin
from tracer.schema.run import RunHeader, TokenText
from tracer.schema.step import Step
from tracer.tracefile import SavedTensor, TraceWriter

HOSTILE = (
    "</SCRIPT><script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 1">',
    "javascript:window.hacked=1",
    "\u202egnol\u2066",
    "nul\x00end",
    "\ud800\udfff"[:1],
    "x" * 10_000,
    '"><svg onload=window.hacked=1>',
    "{{ 7 * 7 }}<!-- -->",
)


def make_trace(
    path: Path,
    *,
    count: int = 6,
    header: RunHeader | None = None,
    steps: Iterable[Step] | None = None,
    tokens: Sequence[TokenText] | None = None,
    end: bool = True,
) -> Path:
    """Write a trace of one synthetic run.

    Args:
        path: where to.
        count: steps of the run.
        header: instead of one with three layers.
        steps: instead of the synthetic ones.
        tokens: instead of the synthetic ones.
        end: whether the run has an end record.
    """
    header = header or synthetic_header(layers=3)
    listed = list(synthetic_steps(header, count) if steps is None else steps)
    with TraceWriter(path) as writer:
        number = writer.begin_run(header)
        for step in listed:
            writer.write_step(step, list(tokens or synthetic_tokens().values()) if step.number == 1 else [])
        if end:
            writer.end_run(number, synthetic_end(header, len(listed)))
    return path


def trace_of(path: Path, run: MemoryRun, *, tokens: Sequence[TokenText] | None = None) -> Path:
    """Write a run in memory with its saved tensors.

    Args:
        path: where to.
        run: the run.
        tokens: instead of the synthetic ones.
    """
    with TraceWriter(path) as writer:
        number = writer.begin_run(run.header, list(tokens or synthetic_tokens().values()))
        for step in run.steps:
            tensors = {
                name: SavedTensor(array.dtype.name, array.shape, np.ascontiguousarray(array).tobytes())
                for name, array in run.saved.get(step.number, {}).items()
            }
            writer.write_step(step, (), tensors)
        writer.end_run(number, synthetic_end(run.header, len(run.steps)))
    return path


def with_tensors(run: MemoryRun, changes: Mapping[int, Mapping[str, npt.NDArray[Any] | None]]) -> MemoryRun:
    """The run with saved tensors of some steps replaced; None takes one out."""
    saved = {step: dict(tensors) for step, tensors in run.saved.items()}
    for step, tensors in changes.items():
        saved[step] = {
            name: tensor for name, tensor in {**saved[step], **tensors}.items() if tensor is not None
        }
    return replace(run, saved=saved)


def hostile_trace(path: Path) -> Path:
    """A trace in which every text is an attack or a nuisance."""
    header = synthetic_header(layers=3)
    attack = HOSTILE[0] + HOSTILE[1]
    header = header.model_copy(
        update={
            "model": header.model.model_copy(update={"name": attack, "tree": attack, "class_name": attack}),
            "prompt": tuple(row.model_copy(update={"text": "".join(HOSTILE[:5])}) for row in header.prompt),
            "generation_config": {attack: attack},
            "anchors": tuple(
                anchor.model_copy(update={"file": attack, "path": attack, "excerpt": (attack,) * 3})
                for anchor in header.anchors
            ),
        }
    )
    return make_trace(path, header=header, tokens=hostile_tokens())


def hostile_tokens() -> list[TokenText]:
    """Every token an attack or a nuisance."""
    return [
        replace_text(token, HOSTILE[token.id % len(HOSTILE)].replace("\ud800", "\ufffd"))
        for token in synthetic_tokens().values()
    ]


def replace_text(token: TokenText, text: str) -> TokenText:
    """The token with another text."""
    return token.model_copy(update={"text": text, "piece": text})


def page_of(trace: Path, *, redact: bool = False) -> Path:
    """The page of a trace, beside it."""
    page = trace.with_suffix(".html")
    with open_trace(trace) as recording:
        page.write_text(recording.to_html(redact=redact), encoding="utf-8")
    return page


def comparison_of(a: Path, b: Path) -> Path:
    """The page of two traces, beside the first."""
    page = a.with_name(f"{a.stem}-{b.stem}.html")
    with open_trace(a) as first, open_trace(b) as second:
        runs = first.runs[0], second.runs[0]
        view = comparison_view(*runs, diff(*runs), (a.name, b.name))
    page.write_text(render_comparison(view), encoding="utf-8")
    return page


def with_scores(step: Step, **changes: object) -> Step:
    """A step with columns of its scores replaced."""
    assert step.scores is not None
    return replace(step, scores=replace(step.scores, **changes))  # type: ignore[arg-type]


def forked_trace(
    path: Path,
    forks: Sequence[ForkOrigin | None],
    *,
    rows: int = 1,
    count: int = 8,
    header: RunHeader | None = None,
    tokens: Sequence[TokenText] | None = None,
    ends: bool = True,
) -> Path:
    """Write a trace of several synthetic runs.

    Args:
        path: where to.
        forks: where each run branched off; None for one that is no fork.
        rows: rows of each run.
        count: steps of each run.
        header: instead of a synthetic one of two layers.
        tokens: instead of the synthetic ones.
        ends: whether the forks have end records.
    """
    header = header or synthetic_header(rows=rows, layers=2)
    with TraceWriter(path) as writer:
        for place, fork in enumerate(forks):
            own = header.model_copy(update={"fork": fork})
            number = writer.begin_run(own, list(tokens or synthetic_tokens().values()) if not place else [])
            for step in synthetic_steps(own, count, run=number, seed=place):
                writer.write_step(step)
            if ends or fork is None:
                writer.end_run(number, synthetic_end(own, count))
    return path


FORKS = (
    None,
    ForkOrigin(run=1, step=3, row=0, token=43),
    ForkOrigin(run=1, step=6, banned=(16,), row=0),
    ForkOrigin(run=2, step=5, settings={"temperature": "1.5"}, seed=4),
    ForkOrigin(run=1, step=3, row=0, token=0),
)
"""A run, forks of it, and a fork of a fork."""
