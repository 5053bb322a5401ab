"""The walkthrough of a run of DoLa decoding."""

from __future__ import annotations

import re

import pytest
from rich.cells import cell_len
from syrupy.assertion import SnapshotAssertion

from reports.terminal import TerminalReport, render_card
from reports.view import step_view
from tests.reports.records import TOKENS, console, end, rendered, scrubbed, with_head, written
from tests.support.synthetic_dola import dola_header, dola_steps
from tracer.schema.checks import Check, Violation
from tracer.schema.contrast import EarlyLayer


def printed(width: int, *, rows: int = 1, do_sample: bool = True, count: int = 3) -> str:
    run = dola_header(rows=rows, do_sample=do_sample)
    target = console(width)
    report = TerminalReport(target, path="run.trace")
    report.on_run(1, run, TOKENS)
    for step in dola_steps(run, count):
        report.on_step(step, TOKENS)
    report.on_end(end(run, count))
    return written(target)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(("rows", "do_sample"), [(1, True), (2, False)])
def test_a_run(width: int, rows: int, do_sample: bool, snapshot: SnapshotAssertion) -> None:
    assert scrubbed(printed(width, rows=rows, do_sample=do_sample, count=2)) == snapshot


def card(width: int = 80, *, colour: bool = False, **changes: object) -> str:
    run = dola_header()
    step = with_head(next(dola_steps(run, 1)), **changes)
    return rendered(render_card(step_view(run, step, TOKENS).card("contrast")), width=width, colour=colour)


def test_what_the_library_took_stands_out(snapshot: SnapshotAssertion) -> None:
    assert card(colour=True) == snapshot


def test_a_step_whose_layers_were_not_seen() -> None:
    text = " ".join(card(contrast=None).split())
    assert "The calls of the model's head for the candidate layers were not seen." in text
    assert "highest contrasts" in text


def test_a_single_layer_and_the_embeddings() -> None:
    contrast = next(dola_steps(dola_header(), 1)).head.contrast
    assert contrast is not None
    only = contrast.model_copy(update={"layers": (EarlyLayer(layer=0, divergence=None),), "taken": 0})
    text = card(contrast=only)
    assert re.search(r"0 \(the embeddings\) +not asked: the only one +taken", text)


def test_a_check_that_fails_is_said() -> None:
    check = Check.made("contrast", holds=False, checked=1, total=1)
    wrong = Violation(check="contrast", message="the scores are not the contrast of the two layers", row=0)
    assert "✗" in card(checks=(check,), violations=(wrong,))
    unknown = Check.not_made("contrast", "what cuda:0 computed cannot be repeated exactly here", total=1)
    assert "computed again: what cuda:0 computed cannot be repeated exactly here" in " ".join(
        card(checks=(unknown,)).split()
    )


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("rows", [1, 3])
def test_no_line_is_wider_than_the_terminal(width: int, rows: int) -> None:
    assert max(cell_len(line) for line in printed(width, rows=rows).splitlines()) <= width


def test_no_trailing_spaces() -> None:
    assert not re.search(r" +$", printed(80, rows=2), re.MULTILINE)
