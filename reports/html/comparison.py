"""The page that shows two runs side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from reports.html.pack import Json, Section
from reports.html.sections.page_sections import token_section
from reports.html.shell import PROGRAM, render_shell
from reports.view.questions.comparison import ComparisonView, RowsView
from reports.view.text import plain
from tracer.analysis.diff.course import CourseStep, CourseToken
from tracer.schema.columns import NO_TOKEN

ENTRY, STYLE = "comparison/main.js", "comparison/comparison.css"


def render_comparison(view: ComparisonView) -> str:
    """A page that shows two runs side by side, in one self-contained file.

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
            "headers": [asdict(group) for group in view.headers],
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
    return {
        "number": np.array([step.number for step in steps], dtype=np.int32),
        "shared": np.array([step.shared for step in steps], dtype=np.uint8),
        "over_all": np.array([step.over_all for step in steps], dtype=np.uint8),
        "divergence": _floats(step.divergence for step in steps),
        "largest": _floats(step.largest for step in steps),
        **_token_columns("a", [step.a for step in steps]),
        **_token_columns("b", [step.b for step in steps]),
    }


def _token_columns(run: str, tokens: list[CourseToken | None]) -> dict[str, npt.NDArray[Any]]:
    """What one run chose in each step."""
    ids = [NO_TOKEN if token is None else token.token for token in tokens]
    return {
        f"token_{run}": np.array(ids, dtype=np.int32),
        f"probability_{run}": _floats(None if token is None else token.probability for token in tokens),
        f"elsewhere_{run}": _floats(None if token is None else token.elsewhere for token in tokens),
    }


def _floats(values: Iterable[float | None]) -> npt.NDArray[np.float32]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float32)
