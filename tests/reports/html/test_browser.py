"""The page in a real browser: every view, keys and links, hostile texts, narrow screens, accessibility."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.reports.html.checks import WIDE, serious_barriers
from tests.reports.html.conftest import Opened
from tests.reports.html.samples import HOSTILE, hostile_trace, make_trace, page_of, replace_text
from tests.reports.view.test_split_characters import token_of
from tests.support.breadth import slow
from tests.support.synthetic import synthetic_header, synthetic_tokens
from tracer.schema.run import STOPS

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of(make_trace(tmp_path_factory.mktemp("report") / "run.trace", count=20))


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    header = synthetic_header(rows=3, layers=2)
    return page_of(make_trace(tmp_path_factory.mktemp("batch") / "run.trace", header=header))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of(hostile_trace(tmp_path_factory.mktemp("hostile") / "run.trace"))


def test_keys_move_through_steps_and_stops(report: Path, opened: Opened) -> None:
    page = opened.open(report)
    opened.shown("1/1/0/model-call")
    for key, wanted in (
        ("ArrowRight", "1/2/0/model-call"),
        ("End", "1/20/0/model-call"),
        ("ArrowLeft", "1/19/0/model-call"),
        ("j", "1/19/0/layers"),
        ("k", "1/19/0/model-call"),
        ("Home", "1/1/0/model-call"),
        ("ArrowLeft", "1/1/0/model-call"),
    ):
        page.keyboard.press(key)
        opened.shown(wanted)
    assert page.evaluate("location.hash") == "#run=1&step=1&stop=model-call&row=0"


@pytest.mark.parametrize("stop", STOPS[1:])
def test_a_link_opens_a_step_at_a_stop(report: Path, opened: Opened, stop: str) -> None:
    page = opened.open(report, f"#run=1&step=17&stop={stop}&row=0")
    opened.shown(f"1/17/0/{stop}")
    assert page.locator("#step h2").inner_text() == "Step 17, decode"
    assert page.locator(".stops [aria-current=step]").count() == 1
    assert page.locator(".pane").inner_text().strip()
    if stop != "layers":
        assert page.locator(".code.current").count() == 1


@pytest.mark.parametrize("at", ["#run=9&step=999&stop=nowhere&row=7", "#step=-1", "#%zz", "#step=1e9"])
def test_an_impossible_address_leads_to_a_possible_place(report: Path, opened: Opened, at: str) -> None:
    opened.open(report, at)
    assert re.fullmatch(r"1/\d+/0/model-call", opened.page.evaluate("document.documentElement.dataset.shown"))


def test_rows_of_a_batch_can_be_chosen(batch: Path, opened: Opened) -> None:
    page = opened.open(batch)
    page.get_by_label("Row", exact=True).select_option("2")
    opened.shown("1/1/2/model-call")
    assert "row 2" in page.locator(".pane").inner_text()


def test_pipeline_shows_who_removed_a_token(report: Path, opened: Opened) -> None:
    page = opened.open(report, "#step=3")
    rows = page.locator(".pipeline tbody tr")
    assert rows.count() == 14
    assert page.locator(".pipeline tr.chosen").count() == 1
    gone = page.locator(".pipeline tr.gone").first
    assert "✕ Top" in gone.inner_text()
    page.get_by_text("Show all").click()
    assert rows.count() > 60


def test_the_facts_of_the_run_are_listed(report: Path, opened: Opened) -> None:
    page = opened.open(report)
    page.get_by_text("Model, settings, versions").click()
    facts = page.locator("#top dl").first
    assert [facts.locator("dt").first.inner_text(), facts.locator("dd .value").first.inner_text()] == [
        "parameters",
        "7,615,616,512",
    ]
    assert "[object" not in (page.text_content("body") or "")


def test_a_followed_token_is_marked_everywhere(report: Path, opened: Opened) -> None:
    page = opened.open(report, "#step=3")
    token = page.locator(".pipeline tr.chosen button.token")
    token.hover()
    assert page.locator(".pipeline tr.followed.chosen").count() == 1
    assert page.locator(".chip.followed").count() >= 1
    token.click()
    page.mouse.move(0, 0)
    page.wait_for_selector(".trail .jump")
    assert page.locator(".trail .jump").first.inner_text() == "3"
    assert "of 20 steps; chosen in step" in page.locator(".trail").inner_text()


def test_search_says_what_became_of_a_token(report: Path, opened: Opened) -> None:
    page = opened.open(report, "#step=3")
    page.keyboard.press("/")
    page.keyboard.type("13")
    assert page.locator(".answers li").first.inner_text().startswith("␣word13")
    assert "Chosen: probability" in page.locator(".answers li").first.inner_text()
    page.locator("#why-search").fill("no such token")
    assert "No token of this recording" in page.locator(".answers").inner_text()


def test_search_finds_the_token_itself_first(tmp_path: Path, opened: Opened) -> None:
    """Whatever is recorded of it in this step: a text that holds the query comes after it."""
    texts = {11: " hundreds", 41: "red", 60: " Red", 61: "Redder"}
    tokens = [
        replace_text(token, texts.get(token.id, f"t{token.id}")) for token in synthetic_tokens().values()
    ]
    page = opened.open(page_of(make_trace(tmp_path / "run.trace", tokens=tokens)))
    page.locator("#why-search").fill("Red")
    found = [text.split("\n")[0] for text in page.locator(".answers li .token").all_inner_texts()]
    assert found == ["␣Red", "red", "Redder", "␣hundreds"]


def test_a_character_split_over_tokens_is_put_together(tmp_path: Path, opened: Opened) -> None:
    parts = {11: b" \xe8", 12: b"\xaf", 13: b"\xad", 14: b"\xad"}
    tokens = [
        token_of(token.id, parts[token.id]) if token.id in parts else token
        for token in synthetic_tokens().values()
    ]
    page = opened.open(page_of(make_trace(tmp_path / "run.trace", tokens=tokens)), "#step=3&stop=choice")
    chips = page.locator(".chip:not(.prompt)").all_inner_texts()
    assert chips[:4] == ["␣⟨E8⟩", "⟨AF⟩", "⟨AD⟩→语", "⟨AD⟩"]
    assert page.locator(".pane .token").first.inner_text() == "⟨AD⟩→语"


def test_cache_layers_and_charts_follow_the_step(report: Path, opened: Opened) -> None:
    page = opened.open(report, "#step=5")
    assert "33 slots a layer" in page.locator("#cache").inner_text()
    assert "cache_position 32 is written" in page.locator("#cache").inner_text()
    page.locator("#cache .heat").hover(position={"x": 20, "y": 20})
    assert re.search(r"position \d+ .* layer \d, KV head \d · key norm", page.locator("#cache").inner_text())
    assert page.locator(".calls tbody tr").count() == 8
    page.locator(".fold").first.click()
    assert page.locator(".calls tr.inner").count() == 3
    assert page.locator("#overview .chart").count() == 4
    chart = page.locator("#overview svg").first
    width = chart.evaluate("chart => chart.getBoundingClientRect().width")
    chart.click(position={"x": width - 1, "y": 20}, force=True)
    opened.shown("1/20/0/model-call")


def test_hostile_texts_are_only_texts(hostile: Path, opened: Opened) -> None:
    page = opened.open(hostile, "#step=2&stop=softmax")
    for _ in range(11):
        page.keyboard.press("j")
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img, script:not([type='module']):not([data-section]), iframe").count() == 0
    text = page.locator("body").inner_text()
    assert "<img src=x onerror=" in text
    assert "\\u202e" in text
    assert "\u202e" not in text
    assert "x" * 300 not in text
    assert page.evaluate(WIDE) <= 0


def test_the_file_itself_holds_no_hostile_text(hostile: Path) -> None:
    source = hostile.read_text(encoding="utf-8")
    assert not [text for text in HOSTILE if len(text) > 8 and text in source]
    assert source.lower().count("</script") == source.lower().count("<script")


@pytest.mark.parametrize("width", [400, 768, 3840])
def test_no_horizontal_scroll(report: Path, opened: Opened, width: int) -> None:
    opened.page.set_viewport_size({"width": width, "height": 800})
    page = opened.open(report)
    for stop in STOPS[1:]:
        opened.shown(f"1/1/0/{stop}")
        assert page.evaluate(WIDE) <= 0, stop
        page.keyboard.press("j")


@pytest.mark.parametrize("scheme", ["light", *slow("dark")])
@pytest.mark.parametrize("stop", ["softmax", *slow("model-call", "warpers")])
def test_accessible(report: Path, opened: Opened, scheme: str, stop: str) -> None:
    opened.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page = opened.open(report, f"#step=3&stop={stop}")
    assert serious_barriers(page) == []


def test_an_incomplete_run_says_so(tmp_path: Path, opened: Opened) -> None:
    page = opened.open(page_of(make_trace(tmp_path / "run.trace", end=False)))
    assert "no end record" in page.locator(".banner.error").inner_text()


def test_a_run_without_steps_opens(tmp_path: Path, opened: Opened) -> None:
    trace = make_trace(tmp_path / "run.trace", steps=(), end=False)
    opened.page.goto(page_of(trace).as_uri())
    opened.page.wait_for_selector("html[data-ready]", state="attached")
    assert "No step was recorded" in opened.page.locator("#bar").inner_text()
