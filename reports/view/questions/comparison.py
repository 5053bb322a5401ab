"""Two runs side by side: headers, verdict, texts, steps and modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.view.figures import count, duration, plural
from reports.view.questions.comparison_headers import HeaderGroup, header_groups
from reports.view.questions.comparison_modules import ModuleStepView, module_step_view
from reports.view.questions.diff import DiffView, both_texts, diff_view, rows_text
from reports.view.run.header import HeaderView, decoding, header_view
from reports.view.run.summary import SummaryView, summary
from reports.view.text import plain
from tracer.analysis.diff.course import Course, courses
from tracer.analysis.diff.modules import module_steps
from tracer.analysis.diff.report import DiffReport
from tracer.analysis.runs import RecordedRun
from tracer.schema.run import TokenText


@dataclass(frozen=True)
class RunView:
    """One of the two runs in short.

    Attributes:
        name: what it is called.
        model: name of the model.
        figures: steps, duration, decoding, dtype, when it was recorded.
    """

    name: str
    model: str
    figures: tuple[str, ...]


@dataclass(frozen=True)
class RowsView:
    """Two rows that are compared.

    Attributes:
        label: which rows.
        prompts: both prompts; None where the text is not known.
        answers: both answers.
        course: their steps.
    """

    label: str
    prompts: tuple[str | None, str | None]
    answers: tuple[str | None, str | None]
    course: Course


@dataclass(frozen=True)
class ComparisonView:
    """Two runs side by side.

    Attributes:
        runs: both in short.
        verdict: what the comparison says.
        headers: their headers, value by value.
        rows: the rows that are compared.
        modules: the modules in the steps in which the runs begin to differ.
        texts: texts of the tokens that were chosen.
    """

    runs: tuple[RunView, RunView]
    verdict: DiffView
    headers: tuple[HeaderGroup, ...]
    rows: tuple[RowsView, ...]
    modules: tuple[ModuleStepView, ...]
    texts: Mapping[int, TokenText]


def comparison_view(
    a: RecordedRun, b: RecordedRun, report: DiffReport, names: tuple[str, str]
) -> ComparisonView:
    """Put two compared runs side by side.

    Args:
        a: run A.
        b: run B.
        report: their comparison.
        names: what to call them.
    """
    found = courses(a, b, report)
    texts = both_texts(a.tokens, b.tokens, ids=_chosen(found))
    headers = header_view(a.header, texts), header_view(b.header, texts)
    ends = _end(a), _end(b)
    ours, theirs = (
        RunView(plain(name), header.model, _figures(run, header, end))
        for name, run, header, end in zip(names, (a, b), headers, ends, strict=True)
    )
    return ComparisonView(
        runs=(ours, theirs),
        verdict=diff_view(report, names, texts),
        headers=header_groups(*headers, (a.header.capture, b.header.capture)),
        rows=tuple(_rows(course, headers, ends) for course in found),
        modules=tuple(module_step_view(step, report) for step in module_steps(a, b, report)),
        texts=texts,
    )


def _chosen(found: Sequence[Course]) -> list[int]:
    sides = [side for course in found for step in course.steps for side in (step.a, step.b)]
    return list(dict.fromkeys(side.token for side in sides if side is not None))


def _end(run: RecordedRun) -> SummaryView:
    return summary(run.end, header=run.header, steps=len(run.steps))


def _figures(run: RecordedRun, header: HeaderView, end: SummaryView) -> tuple[str, ...]:
    found = (
        plural(end.steps, "step") if end.status == "complete" else f"{count(end.steps)} steps, {end.status}",
        None if end.seconds is None else duration(end.seconds),
        decoding(run.header).value,
        plain(run.header.model.dtype),
        header.started_at,
    )
    return tuple(text for text in found if text)


def _rows(
    course: Course, headers: tuple[HeaderView, HeaderView], ends: tuple[SummaryView, SummaryView]
) -> RowsView:
    numbers = course.rows.a, course.rows.b
    prompts = [header.prompts[row].text for header, row in zip(headers, numbers, strict=True)]
    answers = [_answer(end, row) for end, row in zip(ends, numbers, strict=True)]
    return RowsView(rows_text(course.rows), (prompts[0], prompts[1]), (answers[0], answers[1]), course)


def _answer(end: SummaryView, row: int) -> str | None:
    return next((answer.text for answer in end.answers if answer.row == row), None)
