"""How answers to "why", "what if" and "where do they part" look."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from rich.cells import cell_len
from syrupy.assertion import SnapshotAssertion

from hooks.scores.replay import TorchReplayer
from reports.terminal.questions.attention import render_attention
from reports.terminal.questions.diff import render_diff
from reports.terminal.questions.lens import render_lens
from reports.terminal.questions.whatif import render_grid, render_whatif
from reports.terminal.questions.why import render_why
from reports.view.questions.attention import attention_view
from reports.view.questions.diff import diff_view
from reports.view.questions.lens import lens_view
from reports.view.questions.whatif import grid_view, whatif_view
from reports.view.questions.why import why_view
from tests.reports.records import console, written
from tests.support.models import batch
from tests.tracer.analysis.records import recorded
from tests.tracer.analysis.runs import MemoryRun, real_run
from tests.tracer.analysis.test_why import walkthrough_case
from tracer.analysis.attention import read_attention
from tracer.analysis.diff import diff
from tracer.analysis.draw import near_misses
from tracer.analysis.lens import read_lens
from tracer.analysis.processors.settings import Settings
from tracer.analysis.whatif import whatif, whatif_grid
from tracer.analysis.why import why_in_run
from tracer.schema.run import TokenText

HOSTILE = "\x1b[31m[bold]red[/bold]\n"
TEXTS = {
    32: TokenText(id=32, text="A", piece="A"),
    342: TokenText(id=342, text=" Large", piece="ĠLarge"),
    100: TokenText(id=100, text=HOSTILE, piece=HOSTILE),
}
WIDTHS = pytest.mark.parametrize("width", [80, 120])


def printed(renderable: object, width: int) -> str:
    target = console(width)
    target.print(renderable)
    text = written(target)
    assert all(cell_len(line) <= width for line in text.splitlines())
    assert "\x1b" not in text
    return text


@WIDTHS
@pytest.mark.parametrize("token", [32, 342, 100, 500, 1000])
@pytest.mark.parametrize("saved", [True, False])
def test_why(width: int, token: int, saved: bool, snapshot: SnapshotAssertion) -> None:
    run = recorded(walkthrough_case(), save=saved)
    draw = near_misses(run, 1, TorchReplayer())
    view = why_view(why_in_run(run, 1, token), TEXTS, draw=draw)
    assert printed(render_why(view), width) == snapshot


def test_a_draw_that_was_not_reproduced_says_so() -> None:
    run = recorded(walkthrough_case())
    draw = replace(near_misses(run, 1, TorchReplayer()), reproduced=False)
    assert "another token" in printed(render_why(why_view(why_in_run(run, 1, 32), {}, draw=draw)), 100)


@WIDTHS
def test_whatif(width: int, snapshot: SnapshotAssertion) -> None:
    run = recorded(walkthrough_case())
    report = whatif(run, Settings(temperature=3.0, top_p=0.99), replayer=TorchReplayer())
    assert printed(render_whatif(whatif_view(report, TEXTS, steps=lambda _: True)), width) == snapshot


@WIDTHS
def test_an_estimate(width: int, snapshot: SnapshotAssertion) -> None:
    run = recorded(walkthrough_case(), save=False)
    report = whatif(run, Settings(top_k=0, top_p=1.0))
    assert printed(render_whatif(whatif_view(report, TEXTS, steps=lambda _: False)), width) == snapshot


@WIDTHS
def test_grid(width: int, snapshot: SnapshotAssertion) -> None:
    run = recorded(walkthrough_case())
    grid = {"temperature": [0.7, 3.0], "top_p": [0.8, 1.0]}
    reports = whatif_grid(run, grid, replayer=TorchReplayer())
    assert printed(render_grid(grid_view(reports, tuple(grid), TEXTS)), width) == snapshot


@WIDTHS
def test_diff(width: int, snapshot: SnapshotAssertion) -> None:
    a = recorded(walkthrough_case())
    case = walkthrough_case()
    case.logits[342] += 2
    b = recorded(replace(case, seed=5))
    view = diff_view(diff(a, b), ("a.trace", HOSTILE), TEXTS)
    assert printed(render_diff(view), width) == snapshot


@pytest.fixture(scope="module")
def looked_at() -> MemoryRun:
    return real_run(inputs=batch(2), save=("lens", "attention"), do_sample=False)


def scrubbed(text: str) -> str:
    """Without digits that another machine may round otherwise."""
    return re.sub(r"(\d\.\d\d)\d\d", r"\1__", text)


@WIDTHS
def test_lens(width: int, looked_at: MemoryRun, snapshot: SnapshotAssertion) -> None:
    view = lens_view(read_lens(looked_at, 1, 1), {})
    assert scrubbed(printed(render_lens(view), width)) == snapshot


@WIDTHS
@pytest.mark.parametrize(("layer", "head"), [(None, None), (1, None), (1, 2)])
def test_attention(
    width: int, layer: int | None, head: int | None, looked_at: MemoryRun, snapshot: SnapshotAssertion
) -> None:
    view = attention_view(read_attention(looked_at, 1, 1), {}, layer=layer, head=head)
    assert scrubbed(printed(render_attention(view), width)) == snapshot


def test_hostile_texts_are_shown_and_not_obeyed(looked_at: MemoryRun) -> None:
    texts = {token: TokenText(id=token, text=HOSTILE, piece=HOSTILE) for token in range(100)}
    printed(render_lens(lens_view(read_lens(looked_at, 1), texts)), 80)
    for layer, head in ((None, None), (0, None), (0, 0)):
        view = attention_view(read_attention(looked_at, 1), texts, layer=layer, head=head)
        printed(render_attention(view), 80)
