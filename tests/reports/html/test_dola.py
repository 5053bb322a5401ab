"""The page of a run of DoLa decoding."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reports.html.checks import WIDE, serious_barriers
from tests.reports.html.conftest import Opened
from tests.reports.html.samples import comparison_of, make_trace, page_of
from tests.support.breadth import VIEWPORTS
from tests.support.synthetic import synthetic_header
from tests.support.synthetic_dola import LAYERS, TAKEN, dola_header, dola_steps

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    header = dola_header(rows=2, layers=3)
    path = tmp_path_factory.mktemp("dola") / "run.trace"
    return page_of(make_trace(path, header=header, steps=dola_steps(header, 4)))


def test_keys_reach_the_contrast_and_leave_it(page: Path, opened: Opened) -> None:
    shown = opened.open(page, "#run=1&step=2&stop=next-logits")
    for key, stop in (("j", "contrast"), ("j", "processors"), ("k", "contrast"), ("k", "next-logits")):
        shown.keyboard.press(key)
        opened.shown(f"1/2/0/{stop}")


def test_the_layer_taken_is_marked(page: Path, opened: Opened) -> None:
    shown = opened.open(page, "#run=1&step=2&stop=contrast")
    layers, tokens, others = shown.locator(".pane table").all()
    assert [row.split("\t")[0] for row in layers.locator("tbody tr").all_inner_texts()] == [
        "0 (the embeddings)",
        *(str(layer) for layer in LAYERS[1:]),
    ]
    marked = [row for row in layers.locator("tbody tr").all() if "taken" in row.inner_text()]
    assert [row.inner_text().split("\t")[0] for row in marked] == [str(TAKEN)]
    plain = layers.locator("tbody tr").first
    colour = "row => getComputedStyle(row.cells[0]).backgroundColor"
    assert marked[0].evaluate(colour) != plain.evaluate(colour)
    headings = tokens.locator("thead th").all_inner_texts()
    assert headings[:4] == ["token", "last layer", f"layer {TAKEN}", "contrast"]
    assert "highest contrast" in others.inner_text()
    assert "chosen" in tokens.locator("tbody tr").first.inner_text()
    assert "checked: the scores are the contrast" in shown.locator(".pane").inner_text()


@pytest.mark.parametrize(("width", "scheme"), VIEWPORTS)
def test_it_fits_and_can_be_read(page: Path, opened: Opened, width: int, scheme: str) -> None:
    opened.page.set_viewport_size({"width": width, "height": 1000})
    opened.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    shown = opened.open(page, "#run=1&step=2&stop=contrast")
    assert shown.evaluate(WIDE) <= 0
    assert serious_barriers(shown) == []


def test_the_header_names_the_mode(page: Path, opened: Opened) -> None:
    shown = opened.open(page)
    assert "DoLa, sampling" in shown.locator(".figures").first.inner_text()


def test_scores_are_called_what_they_are(page: Path, opened: Opened) -> None:
    shown = opened.open(page, "#run=1&step=2&stop=softmax")
    text = shown.locator("body").inner_text()
    assert "contrast" in shown.locator(".pane").inner_text()
    assert "raw logit" not in text


def test_a_plain_run_beside_one_of_dola(page: Path, tmp_path: Path, opened: Opened) -> None:
    plain = make_trace(tmp_path / "plain.trace", header=synthetic_header(rows=2, layers=3), count=4)
    opened.page.goto(comparison_of(plain, page.with_suffix(".trace")).as_uri())
    text = opened.page.locator("body").inner_text()
    assert opened.page.locator("h1").inner_text() == "They differ: other decoding loops"
    assert "DoLa, sampling" in text
    assert opened.page.evaluate(WIDE) <= 0
