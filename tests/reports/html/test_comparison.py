"""The page of two runs in a real browser: the verdict, the way through the steps, hostile texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reports.html import render_comparison
from reports.view.questions.comparison import comparison_view
from tests.reports.html.checks import WIDE, serious_barriers
from tests.reports.html.conftest import Opened
from tests.reports.html.samples import HOSTILE, comparison_of, hostile_trace, make_trace, with_scores
from tests.support.breadth import slow
from tests.support.synthetic import synthetic_header, synthetic_steps
from tests.tracer.analysis.runs import MemoryRun
from tracer.analysis.diff import diff
from tracer.schema.run import RunHeader
from tracer.schema.step import Step

pytestmark = pytest.mark.browser


def parting(header: RunHeader, count: int, at: int) -> list[Step]:
    """Steps whose first row chooses the second best token from a step on."""
    steps = []
    for step in synthetic_steps(header, count):
        assert step.scores is not None
        chosen = step.scores.chosen.copy()
        chosen[0] = step.scores.tokens[0][1]
        probability = step.scores.chosen_probability.copy()
        probability[0] = step.scores.probabilities[0][1]
        changed = with_scores(step, chosen=chosen, chosen_probability=probability)
        steps.append(changed if step.number >= at else step)
    return steps


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parted")
    header = synthetic_header(rows=2, layers=3)
    other = header.model_copy(update={"seed": 7, "versions": {**header.versions, "torch": "2.12.0"}})
    a = make_trace(folder / "a.trace", header=header, count=30)
    return comparison_of(a, make_trace(folder / "b.trace", header=other, steps=parting(other, 24, 18)))


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with the same tokens and other numbers."""
    folder, header = tmp_path_factory.mktemp("apart"), synthetic_header(layers=3)
    other = header.model_copy(update={"model": header.model.model_copy(update={"attention": "eager"})})
    a = make_trace(folder / "a.trace", header=header)
    return comparison_of(
        a, make_trace(folder / "b.trace", header=other, steps=synthetic_steps(other, 6, seed=1))
    )


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    a, b = (hostile_trace(folder / f"{name}.trace") for name in ("a", "<img src=x onerror=alert(1)>"))
    return comparison_of(a, b)


def test_it_opens_at_the_first_difference(parted: Path, opened: Opened) -> None:
    page = opened.open(parted)
    opened.shown("0/18")
    assert page.locator("h1").inner_text() == "They differ, and the recordings do not say why"
    pairs = page.locator(".pair:not(.legend)")
    assert pairs.count() == 30
    turning = page.locator(".pair.parted")
    assert turning.count() == 1
    assert turning.locator("span").all_inner_texts() == ["sub28", "sub58"]
    assert turning.get_attribute("aria-current") == "step"
    assert "the first difference: A sub28 (0.8067), B sub58 (0.1933)" in (
        turning.get_attribute("aria-label") or ""
    )
    assert page.locator(".pair.same").count() == 17
    assert pairs.nth(29).locator("span").all_inner_texts() == ["sub40", "-"]


def test_probabilities_on_both_sides(parted: Path, opened: Opened) -> None:
    page = opened.open(parted)
    cells = page.locator("tr[data-step='18'] td").all_inner_texts()
    assert cells == ["18", "sub28", "0.8067", "0.8067", "sub58", "0.1933", "0.1933", "", "0 *"]
    after = page.locator("tr[data-step='19'] td").all_inner_texts()
    assert after[3] == after[6] == "another text"
    assert "the tokens that both runs listed" in page.locator("#steps").inner_text()
    page.keyboard.press("End")
    opened.shown("0/30")
    assert "no token" in page.locator("tr[data-step='30']").inner_text()


def test_what_differs_is_marked_in_the_heads(parted: Path, opened: Opened) -> None:
    page = opened.open(parted)
    assert page.locator(".before tbody tr").all_inner_texts() == [
        "seed\t0\t7",
        "versions torch\t2.13.0\t2.12.0",
    ]
    page.get_by_text("Model, settings, versions of both").click()
    marked = page.locator(".heads tr.differs th").all_inner_texts()
    assert marked == ["≠seed", "≠torch"]
    assert page.get_by_text("different in 2 of").count() == 1


def test_keys_rows_and_links(parted: Path, opened: Opened) -> None:
    page = opened.open(parted, "#row=1&step=3")
    opened.shown("1/3")
    assert page.locator(".pair.parted").count() == 0
    page.get_by_label("Rows", exact=True).select_option("0")
    opened.shown("0/18")
    page.evaluate("document.activeElement.blur()")
    for key, wanted in (("ArrowRight", "0/19"), ("Home", "0/1"), ("ArrowLeft", "0/1"), ("d", "0/18")):
        page.keyboard.press(key)
        opened.shown(wanted)
    assert page.evaluate("location.hash") == "#row=0&step=18"
    page.locator(".pair").nth(5).click()
    opened.shown("0/5")
    page.locator("#begins .jump").first.click()
    opened.shown("0/18")


@pytest.mark.parametrize("at", ["#row=9&step=999", "#step=0", "#%zz", "#step=1e9&row=-1"])
def test_an_impossible_address_leads_to_a_possible_place(parted: Path, opened: Opened, at: str) -> None:
    opened.open(parted, at)
    row, step = map(int, opened.page.evaluate("document.documentElement.dataset.shown").split("/"))
    assert row in (0, 1)
    assert 1 <= step <= 30


def test_the_modules_where_the_numbers_part(apart: Path, opened: Opened) -> None:
    page = opened.open(apart)
    opened.shown("0/1")
    assert page.locator("h1").inner_text() == "They differ: numerics"
    assert "attention sdpa / eager" in page.locator(".explanation").inner_text()
    assert "Every token that both runs chose is the same." in page.locator("#begins").inner_text()
    assert "The first difference that rounding does not explain" in page.locator("#begins").inner_text()
    table = page.locator("#modules table")
    layers = table.locator("tbody tr:not(.inner) td:first-child").all_inner_texts()
    names = ["model.layers.0", "model.layers.1", "model.layers.2"]
    assert [each.replace("▸", "").strip() for each in layers][2:5] == names
    assert "of 17 module calls gave other statistics" in page.locator("#modules").inner_text()
    page.locator("#modules .fold").first.click()
    inner = table.locator("tr.inner").first
    assert "model.layers.0" in inner.inner_text()
    assert table.locator("tr.beyond").count() > 0


def test_the_same_run_twice(tmp_path: Path, opened: Opened) -> None:
    trace = make_trace(tmp_path / "a.trace", count=3)
    page = opened.open(comparison_of(trace, trace))
    opened.shown("0/1")
    text = page.locator("body").inner_text()
    for said in (
        "The same, to the last bit",
        "No recorded number differs.",
        "Nothing differs, so there is no step",
    ):
        assert said in text
    assert page.get_by_text("First difference").count() == 0
    assert page.locator(".heads tr.differs").count() == 0


def test_runs_without_steps_open(tmp_path: Path, opened: Opened) -> None:
    a, b = (make_trace(tmp_path / f"{name}.trace", steps=(), end=False) for name in "ab")
    page = opened.open(comparison_of(a, b))
    opened.shown("nothing")
    assert "No step was recorded" in page.locator("#bar").inner_text()
    assert "Run A has no end record" in page.locator(".banner").first.inner_text()


def test_hostile_texts_are_only_texts(hostile: Path, opened: Opened) -> None:
    page = opened.open(hostile, "#step=2")
    page.get_by_text("Model, settings, versions of both").click()
    page.keyboard.press("End")
    page.wait_for_timeout(100)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img, script:not([type='module']):not([data-section]), iframe").count() == 0
    text = page.locator("body").inner_text()
    assert "<img src=x onerror=" in text
    assert "\u202e" not in text
    assert "x" * 300 not in text
    assert page.evaluate(WIDE) <= 0
    source = hostile.read_text(encoding="utf-8")
    assert not [each for each in HOSTILE if len(each) > 8 and each in source]
    assert source.lower().count("</script") == source.lower().count("<script")


@pytest.mark.parametrize("width", [400, 768, 3840])
def test_no_horizontal_scroll(parted: Path, apart: Path, opened: Opened, width: int) -> None:
    opened.page.set_viewport_size({"width": width, "height": 800})
    for path in (parted, apart):
        page = opened.open(path)
        page.get_by_text("Model, settings, versions of both").click()
        for fold in page.locator(".fold").all():
            fold.click()
        assert page.evaluate(WIDE) <= 0


@pytest.mark.parametrize("scheme", ["light", *slow("dark")])
def test_accessible(parted: Path, apart: Path, opened: Opened, scheme: str) -> None:
    opened.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    for path in (parted, apart):
        page = opened.open(path)
        page.get_by_text("Model, settings, versions of both").click()
        assert serious_barriers(page) == []


def test_print_shows_all_tokens_and_no_controls(parted: Path, opened: Opened) -> None:
    page = opened.open(parted)
    page.emulate_media(media="print")
    assert not page.locator(".controls").is_visible()
    assert page.locator(".pairs").evaluate("strip => strip.scrollHeight <= strip.clientHeight")


def test_saved_logits_give_the_divergence(tmp_path: Path, opened: Opened) -> None:
    header = synthetic_header(layers=1)
    steps = list(synthetic_steps(header, 3))
    size = steps[0].head.vocab_size
    logits = np.zeros((1, size), dtype=np.float32)
    moved = logits.copy()
    moved[0, 0] = 2.0
    a, b = (
        MemoryRun(header, steps, saved={step.number: {"logits": each} for step in steps})
        for each in (logits, moved)
    )
    page = tmp_path / "page.html"
    page.write_text(render_comparison(comparison_view(a, b, diff(a, b), ("a", "b"))), encoding="utf-8")
    opened.open(page)
    p, q = np.full(size, 1 / size), np.exp(moved[0]) / np.exp(moved[0]).sum()
    expected = float((p * np.log(p / q)).sum())
    cells = opened.page.locator("tr[data-step='2'] td").all_inner_texts()
    assert float(cells[-2]) == pytest.approx(expected, rel=5e-3)
    assert cells[-1] == "2"
