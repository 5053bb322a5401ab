"""Long runs, several runs, and runs that the user changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import expect

from reports.html.sections import histories
from tests.reports.html.conftest import Opened
from tests.reports.html.samples import make_trace, page_of
from tests.support.synthetic import synthetic_end, synthetic_header, synthetic_steps, synthetic_tokens
from tracer.reading import open_trace
from tracer.schema.changes import Intervention
from tracer.tracefile import TraceWriter

pytestmark = pytest.mark.browser


def test_a_run_beyond_the_bound_says_what_was_left_out(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = make_trace(tmp_path / "run.trace", count=12)
    whole = page_of(trace).stat().st_size
    monkeypatch.setattr(histories, "CALLS_BUDGET", 60)
    with open_trace(trace) as recording:
        page = tmp_path / "thin.html"
        page.write_text(recording.to_html(), encoding="utf-8")
    assert page.stat().st_size < whole
    opened.open(page)
    opened.page.keyboard.press("End")
    opened.shown("1/12/0/model-call")
    layers = opened.page.locator("#layers")
    layers.scroll_into_view_if_needed()
    expect(layers).to_contain_text("To keep the page small, it holds the module calls of one step in")


@pytest.mark.slow
def test_512_steps_of_a_model_of_28_layers_stay_small(tmp_path: Path, opened: Opened) -> None:
    page = page_of(make_trace(tmp_path / "run.trace", count=512, header=synthetic_header()))
    assert page.stat().st_size <= 6_000_000
    opened.open(page, "#run=1&step=512&stop=choice&row=0")
    opened.shown("1/512/0/choice")


@pytest.mark.slow
def test_4000_steps_open(tmp_path: Path, opened: Opened) -> None:
    page = page_of(make_trace(tmp_path / "run.trace", count=4000, header=synthetic_header()))
    opened.open(page, "#run=1&step=3999&stop=softmax&row=0")
    opened.shown("1/3999/0/softmax")


def test_the_runs_of_a_file_can_be_chosen(tmp_path: Path, opened: Opened) -> None:
    path, headers = tmp_path / "run.trace", (synthetic_header(layers=2), synthetic_header(layers=3))
    with TraceWriter(path) as writer:
        for header, count in zip(headers, (3, 5), strict=True):
            number = writer.begin_run(header, list(synthetic_tokens().values()))
            for step in synthetic_steps(header, count):
                writer.write_step(replace(step, head=step.head.model_copy(update={"run": number})))
            writer.end_run(number, synthetic_end(header, count))
    opened.open(page_of(path), "#run=2&step=5&stop=choice&row=0")
    opened.shown("2/5/0/choice")


def test_what_the_user_changed_is_marked(tmp_path: Path, opened: Opened) -> None:
    header = synthetic_header(layers=2)
    changed = [
        replace(
            step,
            head=step.head.model_copy(
                update={"interventions": (Intervention(kind="force", detail='"Large" (34253)'),)}
            ),
        )
        if step.number == 2
        else step
        for step in synthetic_steps(header, 3)
    ]
    page = opened.open(page_of(make_trace(tmp_path / "run.trace", header=header, steps=changed)))
    expect(page.get_by_role("banner")).to_contain_text("1 change made by the user")
    opened.page.keyboard.press("ArrowRight")
    opened.shown("1/2/0/model-call")
    assert '"Large" (34253)' in opened.page.inner_text("main")
