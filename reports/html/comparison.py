"""The page of two runs beside one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from reports.html.pack import Section
from reports.html.payload import token_section
from reports.html.shell import PROGRAM, render_shell
from reports.view.questions.comparison import ComparisonView, RowsView
from reports.view.text import plain
from tracer.analysis.diff.course import CourseStep, CourseToken
from tracer.schema.step import NO_TOKEN

Json = dict[str, Any]

ENTRY, STYLE = "comparison/main.js", "comparison/comparison.css"


def render_comparison(view: ComparisonView) -> str:
    """A page that shows two runs beside one another, in one file that needs nothing else.

    Args:
        view: the runs.
    """
    a, b = view.runs
    title = plain(f"{a.name} | {b.name}", 120)
    return render_shell(_sections(view), title=title, skip_to="steps", entry=ENTRY, styles=(STYLE,))


def _sections(view: ComparisonView) -> Iterator[Section]:
    verdict = view.verdict
    yield Section(
        "index",
        {
            "program": PROGRAM,
            "runs": [asdict(run) for run in view.runs],
            "verdict": {
                "same": verdict.same,
                "headline": verdict.headline,
                "explanation": verdict.explanation,
                "steps": verdict.steps,
                "facts": [asdict(fact) for fact in verdict.facts],
                "tokens": [{**asdict(token), "a": token.a.id, "b": token.b.id} for token in verdict.tokens],
                "numbers": [asdict(number) for number in verdict.numbers],
                "notes": list(verdict.notes),
            },
            "heads": [asdict(group) for group in view.heads],
            "rows": [_row(rows) for rows in view.rows],
            "modules": [asdict(step) for step in view.modules],
        },
    )
    yield token_section(view.texts)
    for place, rows in enumerate(view.rows):
        yield Section(f"rows{place}", None, _columns(rows.course.steps))


def _row(rows: RowsView) -> Json:
    return {
        "label": rows.label,
        "prompts": list(rows.prompts),
        "answers": list(rows.answers),
        "parted": rows.course.parted,
        "padding": [rows.course.rows.padding_a, rows.course.rows.padding_b],
    }


def _columns(steps: tuple[CourseStep, ...]) -> dict[str, npt.NDArray[Any]]:
    """The steps in columns; NaN and :data:`NO_TOKEN` where something is not known or not there."""
    found: dict[str, npt.NDArray[Any]] = {
        "number": np.array([step.number for step in steps], dtype=np.int32),
        "shared": np.array([step.shared for step in steps], dtype=np.uint8),
        "over_all": np.array([step.over_all for step in steps], dtype=np.uint8),
        "divergence": _floats(step.divergence for step in steps),
        "largest": _floats(step.largest for step in steps),
    }
    sides: dict[str, Callable[[CourseStep], CourseToken | None]] = {
        "a": lambda step: step.a,
        "b": lambda step: step.b,
    }
    for name, side in sides.items():
        tokens = [side(step) for step in steps]
        ids = [NO_TOKEN if token is None else token.token for token in tokens]
        found[f"token_{name}"] = np.array(ids, dtype=np.int32)
        found[f"probability_{name}"] = _floats(
            None if token is None else token.probability for token in tokens
        )
        found[f"elsewhere_{name}"] = _floats(None if token is None else token.elsewhere for token in tokens)
    return found


def _floats(values: Any) -> npt.NDArray[np.float32]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float32)
