"""Ways through a page: to a step, to a section, through a heat map, and through long prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.reports.html.checks import WIDE, serious_barriers
from tests.reports.html.conftest import Opened
from tests.reports.html.samples import make_trace, page_of
from tests.support.synthetic import synthetic_header, synthetic_steps
from tracer.schema.tensors import IntValues

pytestmark = pytest.mark.browser

BELOW_BAR = """name => document.querySelector(`#${name} h2`).getBoundingClientRect().top
  - document.getElementById("bar").getBoundingClientRect().bottom"""
COLOURS = """([column, rows]) => { const canvas = document.querySelector("#layers canvas");
  const { width, height } = canvas;
  const copy = Object.assign(document.createElement("canvas"), { width, height });
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const data = context.getImageData(column, 0, 1, rows).data;
  return new Set(Array.from({ length: rows }, (_, row) => data.slice(4 * row, 4 * row + 3).join())).size; }"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of(make_trace(tmp_path_factory.mktemp("report") / "run.trace", count=20))


@pytest.fixture(scope="module")
def long_prompt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prompt of 3,112 tokens."""
    header = synthetic_header(layers=2)
    ids = tuple(np.resize(np.arange(40, 400), 3112).tolist())
    row = header.prompt[0].model_copy(update={"token_ids": ids, "text": "word " * 3112})
    steps = list(synthetic_steps(header, 2))
    first = steps[0].head
    tensors = tuple(
        tensor.model_copy(
            update={
                "info": tensor.info.model_copy(update={"shape": (1, 3112)}),
                "values": IntValues.encode(np.array(ids)),
            }
        )
        if tensor.name == "input_ids"
        else tensor
        for tensor in first.inputs.tensors
    )
    inputs = first.inputs.model_copy(update={"tensors": tensors, "sequence_length": 3112})
    object.__setattr__(steps[0], "head", first.model_copy(update={"inputs": inputs}))
    header = header.model_copy(update={"prompt": (row,)})
    path = tmp_path_factory.mktemp("long") / "run.trace"
    return page_of(make_trace(path, header=header, steps=steps, end=False))


def test_a_number_leads_to_a_step(report: Path, opened: Opened) -> None:
    page = opened.open(report)
    page.keyboard.press("g")
    page.keyboard.type("17")
    page.keyboard.press("Enter")
    opened.shown("1/17/0/model-call")
    field = page.get_by_label("Go to step")
    field.fill("999")
    field.press("Enter")
    opened.shown("1/20/0/model-call")
    assert field.input_value() == "20"
    page.locator("body").click(position={"x": 5, "y": 5})
    page.keyboard.press("ArrowLeft")
    opened.shown("1/19/0/model-call")
    assert field.input_value() == "19"


@pytest.mark.parametrize("width", [400, 1600])
def test_a_link_shows_the_heading_of_its_section(report: Path, opened: Opened, width: int) -> None:
    opened.page.set_viewport_size({"width": width, "height": 900})
    page = opened.open(report, "#step=3")
    for name in ("pipeline", "cache", "layers"):
        page.locator(f"#bar .links a[href='#{name}']").click()
        page.wait_for_timeout(100)
        assert 0 <= page.evaluate(BELOW_BAR, name) < 80, name


def test_the_keys_go_on_from_a_clicked_cell(report: Path, opened: Opened) -> None:
    page = opened.open(report, "#step=5")
    heat = page.locator("#cache .heat")
    box = heat.locator("canvas").bounding_box()
    assert box is not None
    heat.locator("canvas").click(position={"x": box["width"] / 2, "y": box["height"] - 3}, force=True)
    clicked = page.locator("#cache .readout").inner_text()
    position = int(clicked.split()[1])
    assert position > 10
    page.keyboard.press("ArrowRight")
    moved = page.locator("#cache .readout").inner_text()
    assert moved.startswith(f"position {position + 1} ")
    assert moved.split("·")[1] == clicked.split("·")[1]


def test_heat_maps_have_axes(report: Path, opened: Opened) -> None:
    page = opened.open(report, "#step=5")
    for name, across, down in (("cache", "position", "layer, its KV heads"), ("layers", "step", "layer")):
        assert page.locator(f"#{name} .axis.x .name").text_content() == across
        assert page.locator(f"#{name} .axis.y .name").text_content() == down
        places = page.locator(f"#{name} .axis.x .places span").all_text_contents()
        assert 1 < len(places) <= 10
    assert page.locator("#layers .axis.x .places span").first.text_content() == "1"
    assert page.locator("#layers .axis.y .places span").all_text_contents() == ["0", "1", "2"]


def test_the_prefill_does_not_take_the_whole_scale(tmp_path: Path, opened: Opened) -> None:
    steps = list(synthetic_steps(synthetic_header(layers=12), 10))
    assert steps[0].modules is not None
    steps[0].modules.std[:] *= 1000
    page = opened.open(
        page_of(make_trace(tmp_path / "run.trace", header=synthetic_header(layers=12), steps=steps))
    )
    assert page.evaluate(COLOURS, [4, 12]) > 8
    assert "≥" in (page.locator("#layers .ticks").text_content() or "")
    page.get_by_label("Scale of the colours").select_option("own")
    assert page.evaluate(COLOURS, [0, 12]) > 8
    assert page.evaluate(COLOURS, [4, 12]) > 8
    assert "by the range of its step" in (page.locator("#layers .colours").text_content() or "")


def test_a_long_prompt_is_folded_until_it_is_asked_for(long_prompt: Path, opened: Opened) -> None:
    page = opened.open(long_prompt)
    assert page.locator(".pane").evaluate("pane => pane.offsetHeight") < 2000
    assert page.locator(".pane .placed").count() == 60
    assert page.locator(".pane .more").inner_text() == "3,052 more tokens"
    page.locator(".pane .more").click()
    assert page.locator(".pane .placed").count() == 3112
    assert page.locator(".pane .position").nth(2000).inner_text() == "2000"
    assert page.evaluate(WIDE) <= 0


def test_source_is_coloured_and_only_text(tmp_path: Path, opened: Opened) -> None:
    lines = (
        "if x is None:  # <b>no</b>",
        "    return \"<i>'a'</i>\" + 1.5e3",
        "def not_a_word(self, format2=None):",
    )
    header = synthetic_header(layers=1)
    anchors = tuple(anchor.model_copy(update={"excerpt": lines}) for anchor in header.anchors)
    header = header.model_copy(update={"anchors": anchors})
    page = opened.open(page_of(make_trace(tmp_path / "run.trace", header=header)))
    shown = page.locator(".code code").all_text_contents()
    assert [line.rstrip("\n") for line in shown] == list(lines)
    assert page.locator(".py-word").all_inner_texts() == ["if", "is", "None", "return", "def", "self", "None"]
    assert page.locator(".py-comment").all_inner_texts() == ["# <b>no</b>"]
    assert page.locator(".py-string").all_inner_texts() == ["\"<i>'a'</i>\""]
    assert page.locator(".py-number").all_inner_texts() == ["1.5e3"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axes_and_source_are_accessible(report: Path, opened: Opened, scheme: str) -> None:
    opened.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page = opened.open(report, "#step=3&stop=softmax")
    assert serious_barriers(page) == []
