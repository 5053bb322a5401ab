"""The page of a contrastive search, made from a trace of a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reports.html.checks import WIDE, serious_barriers
from tests.reports.html.conftest import Opened
from tests.reports.html.samples import page_of
from tests.support.breadth import VIEWPORTS
from tests.support.checkpoints import tiny_tokenizer
from tests.support.decoding import CONTRASTIVE, contrastive
from tests.support.models import batch, tiny_model
from tracer import open_trace, trace
from tracer.schema.ranking import RowRanking

pytestmark = [pytest.mark.browser, pytest.mark.reference_only]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, model = tmp_path_factory.mktemp("contrastive") / "run.trace", tiny_model("gpt2")
    with trace(model, tiny_tokenizer(), path):
        contrastive(model, batch(2), **CONTRASTIVE["plain"])
    return page_of(path)


def ranking_of(page: Path, step: int, row: int) -> RowRanking:
    with open_trace(page.with_suffix(".trace")) as recording:
        found = recording.steps[step - 1].head.contrastive
    assert found is not None
    ranking = found.rows[row]
    assert ranking is not None
    return ranking


def test_the_table_is_the_ranking(page: Path, opened: Opened) -> None:
    shown = opened.open(page, "#run=1&step=2&row=1&stop=choice")
    ranking = ranking_of(page, 2, 1)
    rows = shown.locator(".pane .figures-table").first.locator("tbody tr").all_inner_texts()
    assert len(rows) == len(ranking.candidates)
    for place, (text, each) in enumerate(zip(rows, ranking.candidates, strict=True)):
        assert f"{each.score:.4f}" in text
        assert f"{each.penalty:.4f}" in text
        assert ("taken" in text) == (place == ranking.taken)
        lost = f"lost by {ranking.winner.score - each.score:.4f}"
        assert (lost in text) == (place != ranking.taken)
    said = shown.locator(".pane").inner_text()
    assert ("The penalty decided" in said) == ranking.penalty_decided


def test_the_prompt_and_the_candidates_have_cards_of_their_own(page: Path, opened: Opened) -> None:
    shown = opened.open(page, "#run=1&step=1&stop=prefill")
    assert "KV cache behind the prompt" in shown.locator(".pane").inner_text()
    shown.keyboard.press("j")
    shown.wait_for_selector('html[data-shown$="/next-logits"]', state="attached")
    shown = opened.open(page, "#run=1&step=1&stop=repeat")
    assert "2 rows become 8 rows" in shown.locator(".pane").inner_text()
    shown = opened.open(page, "#run=1&step=2&stop=prefill")
    assert "step 1 has read the prompt" in shown.locator(".pane").inner_text()


@pytest.mark.parametrize(("width", "scheme"), VIEWPORTS)
def test_it_fits_and_can_be_read(width: int, scheme: str, page: Path, opened: Opened) -> None:
    opened.page.set_viewport_size({"width": width, "height": 1000})
    opened.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    for stop in ("choice", "prefill"):
        shown = opened.open(page, f"#run=1&step=1&stop={stop}")
        assert shown.evaluate(WIDE) <= 0
        assert serious_barriers(shown) == []


def test_what_if_says_why_it_is_not_there(page: Path, opened: Opened) -> None:
    shown = opened.open(page, "#run=1&step=2")
    assert "contrastive search" in shown.locator("#whatif").inner_text()
    assert not shown.locator("#whatif form").is_visible()


def test_a_redacted_page_holds_no_ids_or_texts(page: Path, opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "run.trace").write_bytes(page.with_suffix(".trace").read_bytes())
    shown = opened.open(page_of(tmp_path / "run.trace", redact=True), "#run=1&step=2&stop=choice")
    text = shown.locator("body").inner_text()
    assert [word for word in text.split() if word.startswith("w") and word[1:].isdigit()] == []
