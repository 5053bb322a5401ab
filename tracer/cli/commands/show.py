"""`trace-generate show RUN.trace`: print the walkthrough from a recording, without the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracer.cli.options import (
    StepChoice,
    break_option,
    only_run_option,
    redact_option,
    steps_option,
    trace_argument,
)
from tracer.cli.output import output_console
from tracer.errors import UsageError
from tracer.messages import shown

if TYPE_CHECKING:
    from reports.recorded_run import Run
    from tracer.analysis.conditions.breaks import BreakWatch
    from tracer.schema.step import Step
    from tracer.tracefile import TraceFile, TraceRun


@click.command("show")
@trace_argument
@only_run_option
@steps_option("1,2", "Print these in full.")
@click.option("--only", is_flag=True, help="Leave out the header and the steps that --steps does not name.")
@click.option("--row", default=0, show_default=True, metavar="R", help="Row of a batch to show in full.")
@break_option("Print steps in full where this holds, e.g. 'p_chosen < 0.3'; repeatable.")
@redact_option
def show_command(
    path: Path,
    run_number: int | None,
    steps: StepChoice,
    only: bool,
    row: int,
    breaks: tuple[str, ...],
    redact: bool,
) -> None:
    """Print the walkthrough from a recording, without the model."""
    if redact and breaks:
        raise UsageError("--break names what was chosen, so it cannot be used with --redact; leave one out.")
    from reports.redaction import redacted_runs
    from reports.terminal import TerminalReport
    from tracer.analysis.conditions.breaks import BreakWatch
    from tracer.analysis.conditions.condition import parse_condition
    from tracer.tracefile import TraceFile

    with TraceFile(path) as recording:
        found = _runs(recording, path, run_number)
        _check_steps(found, steps)
        runs: Sequence[Run] = redacted_runs(found) if redact else found
        said_path = path.name if redact else str(path)
        report = TerminalReport(output_console(), full_steps=steps, path=said_path, row=row)
        watch = BreakWatch([parse_condition(text) for text in breaks], report.on_hit)
        for run in runs:
            _check_row(run, row)
            report.on_run(run.number, run.header, run.tokens, printed=not only)
            watch.on_run(run.number, run.header, run.tokens)
            for step in _read_steps(run, watch, steps, only=only, breaks=breaks):
                report.on_step(step, run.tokens)
            if not only:
                report.on_end(run.end, run.stamps)


def _runs(recording: TraceFile, path: Path, number: int | None) -> list[TraceRun]:
    if not recording.runs:
        raise UsageError(f"{shown(path)} holds no run: it ended before a generation began.")
    runs = [run for run in recording.runs if number in (None, run.number)]
    if not runs:
        raise UsageError(f"{shown(path)} has no run {number}; it has {len(recording.runs)}.")
    return runs


def _check_steps(runs: Sequence[TraceRun], steps: StepChoice) -> None:
    last = max(run.steps.numbers[-1] if len(run.steps) else 0 for run in runs)
    steps.check(last, "the run" if len(runs) == 1 else "the longest run")


def _check_row(run: Run, row: int) -> None:
    rows = len(run.header.prompt)
    if not 0 <= row < rows:
        raise UsageError(f"--row {row}: run {run.number} has rows 0 to {rows - 1}.")


def _read_steps(
    run: Run,
    watch: BreakWatch,
    steps: Callable[[int], bool],
    *,
    only: bool,
    breaks: tuple[str, ...],
) -> Iterator[Step]:
    """The steps to print; with ``only`` those that are chosen or in which a condition holds.

    Steps that cannot be printed are not even read.
    """
    for number in run.steps.numbers:
        if only and not breaks and not steps(number):
            continue
        step = run.steps.number(number)
        watch.on_step(step, run.tokens)
        if not only or watch.last or steps(number):
            yield step
