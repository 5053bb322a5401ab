"""A beam search of a release without a scorer, shown and explained by any release."""

from __future__ import annotations

from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from reports.terminal import TerminalReport
from tests.releases.make_traces import unpacked
from tests.reports.records import console, scrubbed, written
from tests.support.command import call_main
from tracer import open_trace
from tracer.schema.beams import Continuation, Fate
from tracer.schema.step import Step
from tracer.tracefile import check_file

ENDED: dict[Fate, str] = {
    "hypothesis": "ended, and is a hypothesis (EosToken)",
    "too late": "ended, but not among the best beams",
    "rejected": "ended, but every hypothesis kept is better (",
    "closed": "ended, but its batch row was done before (",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked("beams-5.24.0", tmp_path_factory.mktemp("traces"))


def first(steps: list[Step], fate: Fate) -> tuple[int, Continuation]:
    """The first continuation that fared so, with its step; it may also be that of the maximal length."""
    return next(
        (step.number, each)
        for step in steps
        for row in (step.head.beams.rows if step.head.beams else ())
        for each in row.continuations
        if each.fate == fate
    )


def test_the_trace_is_whole(path: Path) -> None:
    assert check_file(path).whole
    with open_trace(path) as recording:
        assert recording.header.one_list
        for step in recording.steps:
            assert all(check.held for check in step.head.checks if check.name in ("beams", "positions"))


@pytest.mark.parametrize("fate", ENDED)
def test_each_fate_has_its_words(fate: Fate, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_trace(path) as recording:
        number, each = first([*recording.steps], fate)
    shown = call_main(capsys, "show", path, "--only", "--steps", str(number), "--row", str(each.parent))
    assert ENDED[fate] in " ".join(shown.stdout.split())


def test_a_row_that_is_filled_up_has_no_score(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_trace(path) as recording:
        last = recording.steps[-1].number
    shown = " ".join(call_main(capsys, "show", path, "--only", "--steps", str(last)).stdout.split())
    assert "the other rows are filled with some that have ended" in shown
    assert "-1000000" not in shown


def test_commands(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    why = call_main(capsys, "why", path, "--step", "2")
    assert why.returncode == 0, why.stderr
    assert call_main(capsys, "verify", path).returncode == 0
    whatif = call_main(capsys, "whatif", path, "--length-penalty", "1.5", "--json")
    assert whatif.returncode == 0, whatif.stderr
    page = tmp_path / "page.html"
    assert call_main(capsys, "report", path, "--output", page).returncode == 0
    exported = call_main(capsys, "export", path, "--format", "csv", "--table", "beams", "--out", "-")
    assert ",closed," in exported.stdout


@pytest.mark.parametrize("width", [80, 120])
def test_the_walkthrough(path: Path, width: int, snapshot: SnapshotAssertion) -> None:
    target = console(width)
    report = TerminalReport(target, path="run.trace")
    with open_trace(path) as recording:
        run = recording.runs[0]
        report.on_run(1, run.header, run.tokens)
        for step in run.steps:
            report.on_step(step, run.tokens)
        assert run.end is not None
        report.on_end(run.end)
    text = written(target)
    assert scrubbed(text[text.index("━━ Step 2 ") :]) == snapshot
