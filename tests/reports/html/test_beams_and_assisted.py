"""The pages of a beam search and of an assisted run, made from traces of a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.releases.make_traces import unpacked
from tests.reports.html.checks import WIDE, serious_barriers
from tests.reports.html.conftest import Opened
from tests.reports.html.samples import page_of
from tests.support.breadth import VIEWPORTS
from tests.support.checkpoints import tiny_tokenizer
from tests.support.decoding import assisted, drafted, fail_in_pass, prompt, search
from tests.support.models import batch, tiny_model
from tracer import open_trace, trace
from tracer.schema.lineage import lineage
from tracer.schema.step import Step

pytestmark = [pytest.mark.browser, pytest.mark.reference_only]

BEAMS: dict[str, Any] = {"do_sample": False, "num_beams": 3, "eos_token_id": [*range(40, 60)]}


@pytest.fixture(scope="module")
def beams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, model = tmp_path_factory.mktemp("beams") / "run.trace", tiny_model()
    with trace(model, tiny_tokenizer(), path):
        search(model, batch(1), **BEAMS)
    return page_of(path)


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, model = tmp_path_factory.mktemp("assisted") / "run.trace", tiny_model()
    with trace(model, tiny_tokenizer(), path):
        assisted(model, prompt(), assistant_model=drafted(model), do_sample=False)
    return page_of(path)


@pytest.fixture(scope="module")
def unscored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a beam search without a scorer, by a newer release."""
    return page_of(unpacked("beams-5.24.0", tmp_path_factory.mktemp("unscored")))


def at(opened: Opened, place: str) -> None:
    """Wait until a stop of ``run/step/row/`` is shown."""
    opened.page.wait_for_selector(f'html[data-shown^="{place}"]', state="attached", timeout=5000)


def steps_of(page: Path) -> list[Step]:
    with open_trace(page.with_suffix(".trace")) as recording:
        return [*recording.steps]


def text_of(page: Path, step: int, row: int) -> list[int]:
    """Ids on the path to a beam of a step."""
    steps = steps_of(page)[:step]
    rows = lineage([each.parents for each in steps], row)[1:]
    choices = [each.choice(at) for each, at in zip(steps, rows, strict=True)]
    return [choice.token for choice in choices if choice is not None]


def test_the_tree_has_a_button_for_each_beam_of_each_step(beams: Path, opened: Opened) -> None:
    shown = opened.open(beams)
    steps = steps_of(beams)
    found = [each.get_attribute("data-at") for each in shown.locator("#beams button.beam").all()]
    assert found == [f"{place}/{row}" for place in range(len(steps)) for row in range(3)]
    faint = shown.locator("#beams button.beam:not(.alive):not(.ended)")
    assert faint.count() > 0
    assert shown.locator("#beams button.beam.alive").count() > 0
    assert "comes to nothing" in (faint.first.get_attribute("aria-label") or "")
    looks = "beam => [getComputedStyle(beam).color, getComputedStyle(beam).borderStyle].join()"
    assert faint.first.evaluate(looks) != shown.locator("#beams button.beam.alive").first.evaluate(looks)


def test_the_page_opens_at_its_top_and_stays_where_it_is(tmp_path: Path, opened: Opened) -> None:
    """The tree follows the step; the page, which may show something else, does not."""
    path, model = tmp_path / "run.trace", tiny_model()
    with trace(model, tiny_tokenizer(), path):
        search(model, batch(1), **{**BEAMS, "eos_token_id": None}, max_new_tokens=24)
    shown = opened.open(page_of(path))
    assert shown.evaluate("scrollY") == 0
    for _ in range(23):
        shown.keyboard.press("ArrowRight")
    at(opened, "1/24/")
    assert shown.evaluate("scrollY") == 0
    tree = shown.locator("#beams .scroll")
    assert tree.evaluate("each => each.scrollLeft") > 0
    current = tree.locator("[aria-current=step]")
    visible = "(each, box) => each.getBoundingClientRect().right <= box.getBoundingClientRect().right + 1"
    assert current.evaluate(visible, tree.element_handle())


def test_a_click_opens_step_and_row_and_the_chips_are_its_path(beams: Path, opened: Opened) -> None:
    shown = opened.open(beams)
    for step, row in ((2, 1), (3, 2), (4, 0)):
        shown.locator(f'#beams [data-at="{step - 1}/{row}"]').click()
        at(opened, f"1/{step}/{row}/")
        current = shown.locator("#beams button[aria-current=step]")
        assert [each.get_attribute("data-at") for each in current.all()] == [f"{step - 1}/{row}"]
        chips = shown.locator(".chips [data-place]").all_inner_texts()
        words = tiny_tokenizer().convert_ids_to_tokens(text_of(beams, step, row))
        assert [chip.strip() for chip in chips[: len(words)]] == words


def test_arrows_follow_the_path_over_the_rows(beams: Path, opened: Opened) -> None:
    steps = steps_of(beams)
    last, row = next((step.number, row) for step in steps[2:] for row in range(3) if step.parents[row] != row)
    rows = lineage([each.parents for each in steps[:last]], row)[1:]
    shown = opened.open(beams, f"#run=1&step={last}&row={row}")
    for step in range(last - 1, 0, -1):
        shown.keyboard.press("ArrowLeft")
        at(opened, f"1/{step}/{rows[step - 1]}/")
    shown.keyboard.press("ArrowRight")
    at(opened, "1/2/")
    place = shown.locator("html").get_attribute("data-shown") or ""
    assert steps[1].parents[int(place.split("/")[2])] == rows[0]


@pytest.mark.parametrize(("width", "scheme"), VIEWPORTS)
@pytest.mark.parametrize("which", ["beams", "drafts"])
def test_it_fits_and_can_be_read(
    which: str, width: int, scheme: str, opened: Opened, request: pytest.FixtureRequest
) -> None:
    opened.page.set_viewport_size({"width": width, "height": 1000})
    opened.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    shown = opened.open(request.getfixturevalue(which), "#run=1&step=2&stop=choice")
    assert shown.evaluate(WIDE) <= 0
    assert serious_barriers(shown) == []


def test_a_search_without_a_scorer_is_there_too(unscored: Path, opened: Opened) -> None:
    steps = steps_of(unscored)
    shown = opened.open(unscored, f"#run=1&step={len(steps)}&row=0&stop=choice")
    pane = shown.locator(".pane").inner_text()
    assert "was done before" in pane
    assert "1000000" not in shown.locator("body").inner_text()
    assert shown.locator("#beams button.beam").count() == 2 * len(steps)
    shown.keyboard.press("ArrowLeft")
    at(opened, f"1/{len(steps) - 1}/")
    opened.page.set_viewport_size({"width": 400, "height": 1000})
    assert shown.evaluate(WIDE) <= 0
    assert serious_barriers(shown) == []


@pytest.mark.parametrize(("which", "said"), [("beams", "beam"), ("drafts", "assisted")])
def test_what_if_says_why_it_is_not_there(
    which: str, said: str, opened: Opened, request: pytest.FixtureRequest
) -> None:
    shown = opened.open(request.getfixturevalue(which), "#run=1&step=2")
    assert said in shown.locator("#whatif").inner_text().lower()
    assert not shown.locator("#whatif form").is_visible()


def test_a_search_that_failed_still_opens(tmp_path: Path, opened: Opened) -> None:
    model = tiny_model()
    fail_in_pass(model, 4)
    with pytest.raises(RuntimeError), trace(model, tiny_tokenizer(), tmp_path / "run.trace"):
        search(model, batch(1), **BEAMS)
    shown = opened.open(page_of(tmp_path / "run.trace"), "#run=1&step=2")
    assert "no more" in shown.locator("body").inner_text()
    assert shown.locator("#beams button.beam").count() >= 9
    shown.locator('#beams [data-at="1/1"]').click()
    at(opened, "1/2/1/")


def test_chips_of_an_assisted_run_are_its_text(drafts: Path, opened: Opened) -> None:
    shown = opened.open(drafts)
    steps = steps_of(drafts)
    chips = shown.locator(".chips .chip").all_inner_texts()
    words = [f"w{token}" if token > 4 else None for step in steps for token in step.appended()]
    tail = [chip.strip() for chip in chips][-len(words) :]
    assert [word for word, chip in zip(words, tail, strict=True) if word is not None and word != chip] == []
    accepted = sum(len(step.appended()) - 1 for step in steps)
    assert accepted > 0
    assert shown.locator(".chips .chip.accepted").count() == accepted


def test_the_table_of_proposals(drafts: Path, opened: Opened) -> None:
    number = next(
        step.number for step in steps_of(drafts) if step.head.assisted and step.head.assisted.accepted
    )
    record = steps_of(drafts)[number - 1].head.assisted
    assert record is not None
    shown = opened.open(drafts, f"#run=1&step={number}&stop=choice")
    table = shown.locator(".pane .figures-table").first
    rows = table.locator("tbody tr").all_inner_texts()
    assert len(rows) == len(record.proposals)
    assert sum("accepted" in row for row in rows) == record.accepted
    assert sum("rejected" in row for row in rows) == (record.accepted < len(record.proposals))


@pytest.mark.parametrize("which", ["beams", "drafts"])
def test_a_redacted_page_holds_no_ids_or_texts(
    which: str, opened: Opened, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    trace_file = request.getfixturevalue(which).with_suffix(".trace")
    (tmp_path / "run.trace").write_bytes(trace_file.read_bytes())
    shown = opened.open(page_of(tmp_path / "run.trace", redact=True), "#run=1&step=2&stop=choice")
    text = shown.locator("body").inner_text()
    assert [word for word in text.split() if word.startswith("w") and word[1:].isdigit()] == []
    labels = shown.locator("#beams button.beam").evaluate_all("all => all.map(each => each.ariaLabel)")
    assert not any(" w" in label for label in labels)
