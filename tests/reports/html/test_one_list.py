"""The page of a run whose processors and warpers are one list."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.releases.make_traces import unpacked
from tests.reports.html.conftest import Opened
from tests.reports.html.samples import page_of
from tracer import open_trace
from tracer.analysis.draw import context_of
from tracer.analysis.processors.parsing import parse_processors
from tracer.analysis.processors.processor import ScoreRow, final_row
from tracer.analysis.processors.settings import Settings, change_processors
from tracer.analysis.processors.softmax import softmax
from tracer.analysis.runs import saved_logits, step_of

pytestmark = pytest.mark.browser

STEP, ROW = 2, 2
"""A row with padding, whose ids the repetition penalty of 5.24 leaves out."""


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked("5.24.0", tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def page(trace: Path) -> Path:
    return page_of(trace)


def test_one_stop_shows_all_processors(page: Path, opened: Opened) -> None:
    opened.page.set_viewport_size({"width": 1600, "height": 1000})
    shown = opened.open(page, f"#run=2&step={STEP}&stop=processors")
    names = shown.locator(".stage-cards h4 code").all_inner_texts()
    assert names == [
        "RepetitionPenaltyLogitsProcessor",
        "TemperatureLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
    ]
    assert "logits warpers" not in shown.locator("body").inner_text()
    assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("number", [1, 2], ids=["greedy", "sampled"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"temperature": 1.3, "top_p": 1.0}, {"min_p": 0.2, "top_k": 0}, {"repetition_penalty": 1.6}],
    ids=str,
)
def test_other_settings_give_what_numpy_gives(
    trace: Path,
    page: Path,
    opened: Opened,
    changes: dict[str, float],
    number: int,
) -> None:
    with open_trace(trace) as recording:
        run = recording.run(number)
        step = step_of(run, STEP)
        placed, _ = change_processors(
            parse_processors(run.header), Settings.of(changes), do_sample=run.header.do_sample
        )
        logits = saved_logits(run, STEP)
        assert logits is not None
        expected = softmax(final_row(placed, ScoreRow(logits[ROW]), context_of(run, step, ROW)).scores)
    shown = opened.open(page, f"#run={number}&step={STEP}&row={ROW}")
    for name, value in changes.items():
        shown.fill(f"#knob-{name}", str(value))
    rows: list[list[str]] = shown.evaluate(
        "[...document.querySelectorAll('.result tr[data-share]')].map(row => "
        "[row.querySelector('[data-token]').dataset.token, row.dataset.share])"
    )
    assert len(rows) > 1 or not changes
    # The page has recorded tokens alone: shares are in proportion, and the same where none is missing.
    whole = sum(float(expected[int(token)]) for token, _ in rows)
    found = sum(float(share) for _, share in rows)
    for token, share in rows:
        assert float(share) / found == pytest.approx(float(expected[int(token)]) / whole, rel=1e-5, abs=1e-9)
