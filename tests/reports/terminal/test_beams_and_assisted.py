"""The walkthroughs of a small beam search and of a small assisted run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from syrupy.assertion import SnapshotAssertion

from reports.terminal import TerminalReport
from reports.view.stops.step import stop_card
from tests.reports.records import console, scrubbed, written
from tests.support.checkpoints import tiny_tokenizer
from tests.support.decoding import assisted, drafted, prompt, search
from tests.support.models import batch, tiny_model
from tracer import open_trace, trace
from tracer.schema.run import StopName

pytestmark = pytest.mark.reference_only

RUNS = ("beams", "assisted")


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    model = tiny_model()
    with trace(model, tiny_tokenizer(), folder / "beams"):
        search(model, batch(1), do_sample=False, num_beams=2, eos_token_id=[9, 60], max_new_tokens=3)
    with trace(model, tiny_tokenizer(), folder / "assisted"):
        assisted(model, prompt(), assistant_model=drafted(model), do_sample=False, max_new_tokens=6)
    return {name: folder / name for name in RUNS}


def printed(path: Path, width: int) -> str:
    target = console(width)
    report = TerminalReport(target, path="run.trace")
    with open_trace(path) as recording:
        run = recording.runs[0]
        report.on_run(1, run.header, run.tokens)
        for step in run.steps:
            report.on_step(step, run.tokens)
        assert run.end is not None
        report.on_end(run.end)
    return written(target)


def beside_the_header(text: str) -> str:
    """The steps and the end: the header names versions and times, and is no other than in other runs."""
    return text[text.index(" prepare inputs ") :]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("which", RUNS)
def test_a_run(which: str, width: int, traces: dict[str, Path], snapshot: SnapshotAssertion) -> None:
    assert steady(printed(traces[which], width)) == snapshot


def steady(text: str) -> str:
    """A walkthrough without what differs from run to run and from machine to machine."""
    return scrubbed(beside_the_header(text))


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("which", RUNS)
def test_no_line_is_wider_than_the_terminal(which: str, width: int, traces: dict[str, Path]) -> None:
    text = printed(traces[which], width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert not re.search(r" +$", text, re.MULTILINE)


def test_ids_before_the_append_are_those_decided(traces: dict[str, Path]) -> None:
    """What the model reads goes beyond them by the proposals."""
    shown = re.findall(r"input_ids before.*\n +=(?: row 0:)? …, (\d+)\n", printed(traces["assisted"], 80))
    with open_trace(traces["assisted"]) as recording:
        ids = [*recording.header.prompt[0].token_ids]
        last = []
        for step in recording.steps:
            last.append(str(ids[-1]))
            ids += step.appended()
    assert len(shown) == 2  # later steps are a line each
    assert shown == last[:2]


def test_a_step_that_says_it_has_more_ids_than_were_read_is_shown(traces: dict[str, Path]) -> None:
    """Of a damaged file; what it read ends before the ids that it says it has."""
    with open_trace(traces["assisted"]) as recording:
        run = recording.runs[0]
        step = run.steps[0]
        ids = step.head.ids_before.model_copy(update={"shape": (1, (1 << 31) - 1)})
        damaged = replace(step, head=step.head.model_copy(update={"ids_before": ids}))
        stops: tuple[StopName, ...] = ("forward-result", "next-logits", "append")
        for stop in stops:
            assert stop_card(run.header, damaged, run.tokens, stop).blocks
