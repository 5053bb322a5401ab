"""How answers to "why", "what if" and "where do they part" look."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len
from syrupy.assertion import SnapshotAssertion

from hooks.replay import TorchReplayer
from reports.terminal.diff import render_diff
from reports.terminal.whatif import render_grid, render_whatif
from reports.terminal.why import render_why
from reports.view.diff import diff_view
from reports.view.whatif import grid_view, whatif_view
from reports.view.why import why_view
from tests.analysis.records import recorded
from tests.analysis.test_why import walkthrough_case
from tests.reports.records import console, written
from tracer.analysis.diff import diff
from tracer.analysis.draw import near_misses
from tracer.analysis.processors_settings import Settings
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
