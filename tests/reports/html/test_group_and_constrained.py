"""The pages of a group beam search and of a constrained one, made from traces of a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.reports.html.checks import WIDE, serious_barriers
from tests.reports.html.conftest import Opened
from tests.reports.html.samples import page_of
from tests.reports.html.test_beams_and_assisted import at, steps_of
from tests.support.breadth import VIEWPORTS
from tests.support.checkpoints import tiny_tokenizer
from tests.support.decoding import search
from tests.support.models import batch, tiny_model
from tracer import trace

pytestmark = [pytest.mark.browser, pytest.mark.reference_only]

SETTINGS: dict[str, dict[str, Any]] = {
    "groups": {
        "num_beams": 4,
        "num_beam_groups": 2,
        "diversity_penalty": 0.1,
        "eos_token_id": [*range(40, 60)],
    },
    "constrained": {"num_beams": 3, "force_words_ids": [[30, 31], [[40], [41, 42]]]},
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, settings in SETTINGS.items():
        model = tiny_model()
        with trace(model, tiny_tokenizer(), folder / f"{name}.trace"):
            search(model, batch(1), do_sample=False, **settings)
    return {name: page_of(folder / f"{name}.trace") for name in SETTINGS}


def test_the_tree_keeps_the_groups_apart(pages: dict[str, Path], opened: Opened) -> None:
    shown = opened.open(pages["groups"])
    steps = steps_of(pages["groups"])
    assert shown.locator("#beams .beam-group").all_inner_texts() == ["group 0", "group 1"]
    beams = shown.locator("#beams button.beam")
    assert beams.count() == 4 * len(steps)
    tops = [beams.nth(row).bounding_box()["y"] for row in range(4)]  # type: ignore[index]
    names = [each.bounding_box()["y"] for each in shown.locator("#beams .beam-group").all()]  # type: ignore[index]
    assert names[0] < tops[0] < tops[1] < names[1] < tops[2] < tops[3]
    assert tops[2] - tops[1] > tops[1] - tops[0]
    label = beams.nth(2).get_attribute("aria-label") or ""
    assert label.startswith("step 1, row 2, group 1: ")


def test_the_choice_of_each_group_is_shown(pages: dict[str, Path], opened: Opened) -> None:
    step = next(
        step
        for step in steps_of(pages["groups"])
        if step.head.beams and any(each.taken_by for each in step.head.beams.rows[1].continuations)
    )
    shown = opened.open(pages["groups"], f"#run=1&step={step.number}&row=2&stop=choice")
    at(opened, f"1/{step.number}/2/choice")
    assert step.head.beams is not None
    tables = shown.locator(".pane .figures-table")
    assert tables.count() == 2
    for group, row in enumerate(step.head.beams.rows):
        rows = tables.nth(group).locator("tbody tr").all_inner_texts()
        assert len(rows) == len(row.continuations)
        paid = [f"for row {each.taken_by[0]}" if each.taken_by else "nothing" for each in row.continuations]
        assert all(words in text for words, text in zip(paid, rows, strict=True))


def test_how_far_each_beam_has_come_is_shown(pages: dict[str, Path], opened: Opened) -> None:
    shown = opened.open(pages["constrained"], "#run=1&step=3&stop=beams")
    at(opened, "1/3/0/beams")
    beams = steps_of(pages["constrained"])[2].head.beams
    assert beams is not None
    assert beams.constraints is not None
    rows = shown.locator(".pane .figures-table").nth(1).locator("tbody tr").all_inner_texts()
    states = {"met": "met", "in progress": "in progress", "open": "not begun"}
    wanted = [states[each.status] for row in beams.constraints.progress for each in row]
    assert [next(state for state in states.values() if state in text) for text in rows] == wanted
    assert shown.locator("#beams .beam-group").count() == 0


@pytest.mark.parametrize(("width", "scheme"), VIEWPORTS)
@pytest.mark.parametrize(("which", "stop"), [("groups", "choice"), ("constrained", "beams")])
def test_it_fits_and_can_be_read(
    which: str, stop: str, width: int, scheme: str, opened: Opened, pages: dict[str, Path]
) -> None:
    opened.page.set_viewport_size({"width": width, "height": 1000})
    opened.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    shown = opened.open(pages[which], f"#run=1&step=2&stop={stop}")
    assert shown.evaluate(WIDE) <= 0
    assert serious_barriers(shown) == []


def test_keys_go_over_groups_and_steps(pages: dict[str, Path], opened: Opened) -> None:
    shown = opened.open(pages["groups"], "#run=1&step=2&row=3")
    before = steps_of(pages["groups"])[1].parents[3]
    shown.keyboard.press("ArrowLeft")
    at(opened, f"1/1/{before}/")
    shown.locator('#beams [data-at="1/2"]').click()
    at(opened, "1/2/2/")


@pytest.mark.parametrize(("which", "stop"), [("groups", "choice"), ("constrained", "beams")])
def test_a_redacted_page_holds_no_ids_or_texts(
    which: str, stop: str, opened: Opened, pages: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "run.trace").write_bytes(pages[which].with_suffix(".trace").read_bytes())
    shown = opened.open(page_of(tmp_path / "run.trace", redact=True), f"#run=1&step=2&stop={stop}")
    text = shown.locator("body").inner_text()
    assert [word for word in text.split() if word.startswith("w") and word[1:].isdigit()] == []
    assert "w30" not in text
    assert "[30, 31]" not in text
