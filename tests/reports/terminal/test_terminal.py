from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from syrupy.assertion import SnapshotAssertion

from reports.terminal import (
    TerminalReport,
    render_card,
    render_header,
    render_line,
    render_step,
    render_summary,
)
from reports.view import header_view, step_line, step_view, summary
from tests.reports.records import (
    TOKENS,
    console,
    end,
    header,
    rendered,
    scrubbed,
    steps,
    texts,
    with_head,
    written,
)
from tracer.schema.changes import Intervention
from tracer.schema.checks import Check, Violation
from tracer.schema.faults import CaptureError, Uncaptured
from tracer.schema.run import RunHeader, RunStatus, TokenText


def printed(
    run: RunHeader, *, width: int, count: int = 4, colour: bool = False, encoding: str = "utf-8"
) -> str:
    """A whole run as the report prints it."""
    target = console(width, colour=colour, encoding=encoding)
    report = TerminalReport(target, path="run.trace")
    report.on_run(1, run, TOKENS)
    for step in steps(run, count):
        report.on_step(step, TOKENS)
    report.on_end(end(run, count))
    return written(target)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(("rows", "do_sample"), [(1, True), (2, False)])
def test_a_run(width: int, rows: int, do_sample: bool, snapshot: SnapshotAssertion) -> None:
    assert scrubbed(printed(header(rows=rows, do_sample=do_sample), width=width)) == snapshot


def test_a_run_with_everything_wrong(snapshot: SnapshotAssertion) -> None:
    run = header()
    step = with_head(
        steps(run, 1)[0],
        checks=(Check.made("cache", holds=False, checked=28, total=28),),
        violations=(
            Violation(check="cache", message="slot 3 is not what it was", layer=7, row=0),
            Violation(check="finite", message="first NaN, its inputs were finite", module=2),
        ),
        errors=(CaptureError(stop="softmax", message="ValueError: no scores"),),
        interventions=(Intervention(kind="force", detail="force Large"),),
    )
    target = console(80)
    report = TerminalReport(target, full_steps=lambda number: number == 1, path="run.trace")
    report.on_run(1, run, TOKENS)
    report.on_step(step, TOKENS)
    report.on_step(with_head(step, step=2), TOKENS)
    report.on_end(None)
    text = written(target)
    assert scrubbed(text[text.index("Step 1") :]) == snapshot


def test_colours_and_links(snapshot: SnapshotAssertion) -> None:
    run = header()
    view = step_view(run, steps(run, 1)[0], TOKENS)
    assert (
        rendered(render_card(view.card("softmax")), render_card(view.card("choice")), colour=True) == snapshot
    )


def test_a_link_needs_a_terminal_and_points_at_the_file() -> None:
    run = header()
    card = render_card(step_view(run, steps(run, 1)[0], TOKENS).card("model-call"))
    link = "\x1b]8;;file:///site-packages/transformers/generation/utils.py\x1b\\"
    assert link in rendered(card, colour=True)
    assert "\x1b" not in rendered(card)


def test_links_draw_no_number_from_the_programs_generator() -> None:
    before = random.getstate()
    printed(header(), width=80, colour=True)
    assert random.getstate() == before


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("rows", [1, 3])
def test_no_line_is_wider_than_the_terminal(width: int, rows: int) -> None:
    text = printed(header(rows=rows), width=width)
    assert max(cell_len(line) for line in text.splitlines()) <= width


def test_nothing_but_the_file_name_is_shortened_at_80_columns() -> None:
    run = header()
    found = step_view(run, steps(run, 1)[0], TOKENS)
    text = " ".join(rendered(render_step(found), width=80).split())
    for anchor in run.anchors:
        assert anchor.text in text
        assert f"{anchor.file.rsplit('/')[-1]}:{anchor.line}" in text


def test_no_trailing_spaces() -> None:
    assert not re.search(r" +$", printed(header(rows=2), width=80), re.MULTILINE)


def test_no_colour_keeps_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = printed(header(), width=80)
    target = console(80, colour=True)
    target.no_color = True
    report = TerminalReport(target, path="run.trace")
    run = header()
    report.on_run(1, run, TOKENS)
    for step in steps(run, 4):
        report.on_step(step, TOKENS)
    report.on_end(end(run, 4))
    text = written(target)
    assert not re.search(r"\x1b\[[\d;]*3[0-7]", text)
    assert re.sub(r"\x1b\[[\d;]*m|\x1b\]8;;.*?\x1b\\", "", text) == plain


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_every_character_can_be_encoded_and_keeps_its_width(encoding: str) -> None:
    text = printed(header(), width=80, encoding=encoding)
    text.encode(encoding)
    assert "####" in text
    whole = printed(header(), width=80)
    assert [cell_len(line) for line in text.splitlines()] == [cell_len(line) for line in whole.splitlines()]


HOSTILE = st.text(alphabet=st.characters(), max_size=30)


@settings(max_examples=60, deadline=None)
@given(HOSTILE, st.sampled_from([40, 80]))
def test_hostile_tokens_do_nothing(text: str, width: int) -> None:
    run = header()
    step = steps(run, 1)[0]
    known = {token: TokenText(id=token, text=text, piece=text) for token in TOKENS}
    view = step_view(run, step, known)
    shown = rendered(
        render_header(header_view(run, known)),
        render_step(view),
        render_line(step_line(step, known)),
        width=width,
    )
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    assert max(cell_len(line) for line in shown.splitlines()) <= width


@pytest.mark.parametrize("text", ["[red]x[/]", "[link=file:///]x[/]", ":smile:", "[/]"])
def test_markup_is_text(text: str) -> None:
    run = header()
    step = steps(run, 1)[0]
    view = step_view(run, step, texts((11, text), (41, "b")))
    assert text in rendered(render_card(view.card("softmax")))


def test_what_a_damaged_trace_says_of_a_tensor_does_nothing() -> None:
    run = header()
    step = steps(run, 1)[0]
    forward = step.head.forward
    assert forward is not None
    evil = forward.logits.model_copy(update={"dtype": "\x1b[2J", "device": "\u202ecpu"})
    view = step_view(run, with_head(step, forward=forward.model_copy(update={"logits": evil})), TOKENS)
    shown = rendered(render_card(view.card("forward-result")))
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_a_second_run_of_the_same_model_does_not_show_it_again() -> None:
    run = header()
    target = console()
    report = TerminalReport(target)
    report.on_run(1, run, TOKENS)
    report.on_end(end(run))
    first = written(target)
    report.on_run(2, run, TOKENS)
    second = written(target)[len(first) :]
    assert "module tree" in first
    assert "module tree" not in second
    assert "Run 2" in second


def test_the_heading_of_the_lines_comes_again_after_a_full_step() -> None:
    run = header()
    target = console()
    report = TerminalReport(target, full_steps=lambda number: number == 3)
    report.on_run(1, run, TOKENS)
    for step in steps(run, 5):
        report.on_step(step, TOKENS)
    assert written(target).count("runner-up  ") == 2


def test_texts_may_come_with_the_steps() -> None:
    run = header()
    target = console()
    report = TerminalReport(target, full_steps=lambda _: False)
    report.on_run(1, run)
    first, second = steps(run, 2)
    report.on_step(first, texts((11, "one")))
    report.on_step(second, texts((12, "two")))
    text = written(target)
    assert "11 one" in text
    assert "12 two" in text


def test_the_last_line_tells_how_it_ended() -> None:
    run = header()
    assert "\x1b[1;31m✗ run 1 complete" in rendered(
        render_summary(summary(end(run), violations=1)), colour=True
    )
    stopped = summary(end(run, status=RunStatus.INTERRUPTED), header=run)
    assert "! run 1 interrupted" in rendered(render_summary(stopped))
    assert "\nrun 1 complete" in rendered(render_summary(summary(end(run), header=run)))


def test_the_end_says_what_was_not_checked_and_not_captured() -> None:
    run, target = header(), console(100)
    report = TerminalReport(target)
    report.on_run(1, run, TOKENS)
    for number, step in enumerate(steps(run, 3)):
        missing = Uncaptured(capture="lens", stop="layers", reason="its layers are no modules")
        checks = (Check.not_made("cache", "SinkCache: it drops old slots"),)
        report.on_step(with_head(step, checks=checks, uncaptured=() if number else (missing,)), TOKENS)
    report.on_end(end(run, 3))
    text = written(target)
    last = text[text.index("run 1 complete") :]
    assert "not captured (logit lens): its layers are no modules" in last
    assert "Not checked in 3 steps: KV cache: SinkCache: it drops old slots." in last
    assert "✗" not in last
