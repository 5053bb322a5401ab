"""Lens and attention in a real browser: the figures of the terminal's views, keys, gaps, narrow screens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from reports.html.sections import attention, lens
from reports.view.figures import probability
from reports.view.questions.attention import AttentionRow, attention_view
from reports.view.questions.lens import lens_view
from tests.reports.html.checks import WIDE, serious_barriers
from tests.reports.html.conftest import Opened
from tests.reports.html.samples import hostile_tokens, make_trace, page_of, trace_of, with_tensors
from tests.support.breadth import slow
from tests.support.models import batch
from tests.support.synthetic import synthetic_tokens
from tests.tracer.analysis.runs import MemoryRun, real_run
from tracer.analysis.attention import read_attention
from tracer.analysis.lens import read_lens
from tracer.schema.faults import CaptureError

pytestmark = pytest.mark.browser

CELLS = "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"
FRAME = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
TEXTS = synthetic_tokens()


@pytest.fixture(scope="module")
def run() -> MemoryRun:
    return real_run(inputs=batch(2), save=("lens", "attention"), do_sample=False)


@pytest.fixture(scope="module")
def report(run: MemoryRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of(trace_of(tmp_path_factory.mktemp("looks") / "run.trace", run))


def cells(page: Page, section: str) -> list[list[str]]:
    found: list[list[str]] = page.locator(f"{section} tbody tr").evaluate_all(CELLS)
    return found


def said(page: Page, selector: str) -> str:
    """Text, in sight or not."""
    return page.locator(selector).first.text_content() or ""


def at(step: int, row: int) -> str:
    return f"#run=1&step={step}&stop=model-call&row={row}"


def lens_cells(run: MemoryRun, step: int, row: int) -> list[list[str]]:
    """The lens as the table shows it, from the view of the terminal; layers without the mark of the first."""
    return [
        [
            str(each.layer),
            each.rank,
            probability(each.probability),
            "",
            *(f"{token.label}{share}" for token, share in each.top),
        ]
        for each in lens_view(read_lens(run, step, row), TEXTS).rows
    ]


def attention_cells(rows: tuple[AttentionRow, ...]) -> list[list[str]]:
    found = []
    for each in rows:
        top = [
            f"{seen.position}{seen.token.label if seen.token else 'unused'}{seen.share}" for seen in each.top
        ]
        found.append([each.name, each.entropy, *top, *[""] * (5 - len(top))])
    return found


def test_the_lens_is_the_one_of_the_terminal(run: MemoryRun, report: Path, opened: Opened) -> None:
    page = opened.open(report, at(1, 1))
    for step in range(1, len(run.steps) + 1):
        opened.shown(f"1/{step}/1/model-call")
        shown = cells(page, "#lens")
        tags = [re.sub(r"^\d+", "", line[0]) for line in shown]
        assert [[re.sub(r"\D+$", "", line[0]), *line[1:]] for line in shown] == lens_cells(run, step, 1)
        found = read_lens(run, step, 1)
        assert said(page, "#lens .summary") == lens_view(found, TEXTS).summary
        firsts = [layer.layer for layer in found.layers if layer.rank == 1]
        expected = [""] * len(tags)
        if firsts:
            expected[firsts[0]] = "first"
        if found.settled is not None:
            expected[found.settled] = "first, and stays" if found.settled == firsts[0] else "stays first"
        assert tags == expected
        page.keyboard.press("ArrowRight")


def test_a_lead_that_is_lost_and_won_again(run: MemoryRun, tmp_path: Path, opened: Opened) -> None:
    tall: Mapping[str, np.ndarray] = {
        name: np.concatenate([array, array])
        for name, array in run.saved[1].items()
        if name.startswith("lens/")
    }
    ranks = np.array([[1, 7], [4, 9], [1, 3], [1, 2000]], dtype=np.int32)
    page = opened.open(
        page_of(trace_of(tmp_path / "run.trace", with_tensors(run, {1: {**tall, "lens/rank": ranks}})))
    )
    assert [line[0] for line in cells(page, "#lens")] == ["0first", "1", "2stays first", "3"]
    assert said(page, "#lens .summary") == "It ranks first from layer 2 on, of 4 layers."
    page.get_by_label("Row", exact=True).select_option("1")
    opened.shown("1/1/1/model-call")
    assert "its best rank is 3, in layer 2" in said(page, "#lens .summary")
    assert [line[1] for line in cells(page, "#lens")] == ["7", "9", "3", "2,000"]
    # Steps whose layers are others than the first's are said to be.
    page.keyboard.press("ArrowRight")
    opened.shown("1/2/1/model-call")
    assert "has other layers than the first" in said(page, "#lens .banner")


@pytest.mark.parametrize("row", [0, 1])
def test_attention_is_the_one_of_the_terminal(run: MemoryRun, report: Path, opened: Opened, row: int) -> None:
    page = opened.open(report, at(1, row))
    choose = page.get_by_label("Layer", exact=True)
    for step in range(1, len(run.steps) + 1):
        opened.shown(f"1/{step}/{row}/model-call")
        expected = read_attention(run, step, row)
        choose.select_option("all")
        assert cells(page, "#attention") == attention_cells(attention_view(expected, TEXTS).rows)
        for layer in (0, 1):
            choose.select_option(str(layer))
            heads = attention_view(expected, TEXTS, layer=layer).rows
            mean = attention_view(expected, TEXTS).rows[layer]
            assert cells(page, "#attention") == attention_cells((replace(mean, name="mean"), *heads))
        page.locator("body").press("ArrowRight")


def test_every_cell_can_be_read_by_keys(run: MemoryRun, report: Path, opened: Opened) -> None:
    page = opened.open(report, at(3, 1))
    page.get_by_label("Layer", exact=True).select_option("1")
    expected = read_attention(run, 3, 1)
    layer = expected.layers[1]
    page.get_by_label("Layer", exact=True).focus()
    lines = [("mean over the heads", layer.mean), *((f"head {n}", w) for n, w in enumerate(layer.weights))]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.classList.contains('heat')")
    exact = 0
    for name, weights in lines:
        page.keyboard.press("Home")
        for position, weight in enumerate(weights.tolist()):
            text = said(page, "#attention .readout")
            label = attention_view(expected, TEXTS, layer=1, head=0).context[position].token
            assert label is not None
            padding = " (padding)" if position < run.header.prompt[1].padding else ""
            assert text.startswith(f"{name} · position {position} {label.label}{padding} · weight ")
            shown = text.rpartition(" ")[2]
            if "≈" not in text:
                exact += 1
                assert shown == probability(weight)
            elif shown.startswith("<"):
                assert weight < 0.0001
            else:
                assert abs(float(shown) - weight) <= 0.004 * weight**0.5 + 6e-5
            page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
    assert exact == 5 * len(lines)
    assert page.evaluate("document.documentElement.dataset.shown") == "1/3/1/model-call"


def test_a_step_can_be_picked_in_the_heat_map_of_the_lens(report: Path, opened: Opened) -> None:
    page = opened.open(report, at(2, 0))
    page.get_by_label("Figure of the lens").select_option("rank")
    page.get_by_label("Figure of the lens").focus()
    assert page.locator("#lens .ticks span").all_text_contents() == ["100", "10", "1"]
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    text = said(page, "#lens .readout")
    assert re.fullmatch(r"step 6 \S+ · layer 0 · rank \d+, probability \S+", text)
    page.keyboard.press("Enter")
    opened.shown("1/6/0/model-call")
    assert page.locator("#lens .heat:focus").count() == 1


def test_every_heat_map_has_a_legend(report: Path, opened: Opened) -> None:
    page = opened.open(report, at(3, 0))
    names = {
        "cache": "key norm",
        "layers": "standard deviation",
        "lens": "probability of the chosen token",
        "attention": "weight",
    }
    for section, name in names.items():
        assert said(page, f"#{section} .colours .what") == name
        assert said(page, f"#{section} .key:not([hidden])").endswith("this step")
        assert page.locator(f"#{section} .ticks span").count() >= 3
    assert page.locator(".heat").count() == page.locator(".colours").count() == 4
    page.locator("#cache select").select_option("value")
    assert said(page, "#cache .colours .what") == "value norm"
    page.get_by_label("Statistic", exact=True).select_option("nonfinite")
    assert page.locator("#layers .ticks span").all_text_contents() == ["0"]


def test_heat_maps_follow_the_colour_scheme(report: Path, opened: Opened) -> None:
    page = opened.open(report, at(3, 0))
    picture = "document.querySelector('#attention canvas').toDataURL()"
    light = page.evaluate(picture)
    page.emulate_media(color_scheme="dark")
    page.evaluate(FRAME)
    assert page.evaluate(picture) != light


def test_a_gap_says_its_reason(run: MemoryRun, tmp_path: Path, opened: Opened) -> None:
    message = "that of layers 0, 1 could not be recomputed"
    second = run.steps[1]
    head = second.head.model_copy(
        update={"errors": (CaptureError(stop="layers", message=message, capture="attention"),)}
    )
    gone: Mapping[str, None] = dict.fromkeys(run.saved[2])
    bare = replace(
        with_tensors(run, {2: gone}), steps=[run.steps[0], replace(second, head=head), *run.steps[2:]]
    )
    nan = with_tensors(bare, {1: {"attention/0": np.full_like(run.saved[1]["attention/0"], np.nan)}})
    page = opened.open(page_of(trace_of(tmp_path / "run.trace", nan)))
    expect(page.locator("#attention .key:not([hidden])").first).to_have_text("not finite")
    page.locator("#attention .heat").hover(position={"x": 20, "y": 5})
    assert "layer 0 · position 0" in said(page, "#attention .readout")
    assert said(page, "#attention .readout").endswith("weight not finite")
    page.keyboard.press("ArrowRight")
    opened.shown("1/2/0/model-call")
    assert message in said(page, "#attention .banner")
    assert "The attention of this step was not recorded." in said(page, "#attention .note")
    assert page.locator("#attention .heat").is_hidden()
    assert "The lens of this step was not recorded." in said(page, "#lens .note")
    page.keyboard.press("ArrowRight")
    opened.shown("1/3/0/model-call")
    assert page.locator("#attention .heat").is_visible()


def test_a_run_without_them_says_how_to_record_them(tmp_path: Path, opened: Opened) -> None:
    page = opened.open(page_of(make_trace(tmp_path / "run.trace", count=2)))
    assert "was not recorded; --lens records it" in said(page, "#lens")
    assert "--capture tensors --save attention records it" in said(page, "#attention")
    assert page.locator("#lens :is(.heat, table, select)").locator("visible=true").count() == 0
    assert page.locator("#attention :is(.heat, table, select)").locator("visible=true").count() == 0


def test_a_thinned_run_leads_to_the_steps_it_has(
    run: MemoryRun, tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lens, "LENS_BUDGET", 10)
    monkeypatch.setattr(attention, "ATTENTION_BUDGET", 2000)
    monkeypatch.setattr(attention, "COLUMNS", 4)
    page = opened.open(page_of(trace_of(tmp_path / "run.trace", run)), at(2, 1))
    for name in ("lens", "attention"):
        assert "one step in 3. Not of this one; nearest: step 1step 4" in said(page, f"#{name} .note")
    page.locator("#attention .jump").last.click()
    opened.shown("1/4/1/model-call")
    assert cells(page, "#lens")[0][1:3] == lens_cells(run, 4, 1)[0][1:3]
    assert "3 in a column, which is their sum" in said(page, "#attention")
    page.locator("#attention .heat").hover(position={"x": 5, "y": 5})
    assert "(padding)" in said(page, "#attention .readout")
    assert re.search(r"position 0\u20132 .* in all$", said(page, "#attention .readout"))


@pytest.mark.parametrize("width", [400, 3840])
def test_no_horizontal_scroll(report: Path, opened: Opened, width: int) -> None:
    opened.page.set_viewport_size({"width": width, "height": 800})
    page = opened.open(report, at(3, 1))
    page.get_by_label("Layer", exact=True).select_option("1")
    assert page.evaluate(WIDE) <= 0
    page.emulate_media(media="print")
    assert page.evaluate(WIDE) <= 0


def test_hostile_tokens_are_only_texts(run: MemoryRun, tmp_path: Path, opened: Opened) -> None:
    page = opened.open(page_of(trace_of(tmp_path / "run.trace", run, tokens=hostile_tokens())), at(3, 1))
    page.get_by_label("Layer", exact=True).focus()
    page.keyboard.press("Tab")
    readouts = ""
    for _ in range(8):
        readouts += said(page, "#attention .readout")
        page.keyboard.press("ArrowRight")
    shown = " ".join(cell for row in cells(page, "#lens") + cells(page, "#attention") for cell in row)
    assert "\u202e" not in shown + readouts
    assert "window.hacked" in shown
    assert "window.hacked" in readouts
    assert page.evaluate("window.hacked") is None
    assert page.locator("img, iframe").count() == 0
    assert page.evaluate(WIDE) <= 0


def test_a_long_context_scrolls_in_its_box(run: MemoryRun, tmp_path: Path, opened: Opened) -> None:
    even = np.full((2, 4, 1, 500), 1 / 500, dtype=np.float32)
    long = with_tensors(run, {1: {"attention/0": even, "attention/1": even}})
    header = long.header.prompt[0].model_copy(update={"token_ids": (5,) * 500})
    first = long.steps[0]
    inputs = first.head.inputs.model_copy(update={"sequence_length": 500})
    wide = replace(
        long,
        header=long.header.model_copy(update={"prompt": (header, header)}),
        steps=[replace(first, head=first.head.model_copy(update={"inputs": inputs})), *long.steps[1:]],
    )
    page = opened.open(page_of(trace_of(tmp_path / "run.trace", wide)))
    opened.page.set_viewport_size({"width": 400, "height": 800})
    frame = page.locator("#attention .heat")
    assert page.evaluate(WIDE) <= 0
    assert frame.evaluate("frame => frame.scrollWidth > 2 * frame.clientWidth")
    frame.focus()
    page.keyboard.press("End")
    assert frame.evaluate("frame => frame.scrollLeft > 0")
    assert "position 499 " in said(page, "#attention .readout")


@pytest.mark.parametrize("scheme", ["light", *slow("dark")])
def test_accessible(report: Path, opened: Opened, scheme: str) -> None:
    opened.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page = opened.open(report, at(3, 1))
    page.get_by_label("Layer", exact=True).select_option("1")
    page.locator("#lens").scroll_into_view_if_needed()
    assert serious_barriers(page) == []
