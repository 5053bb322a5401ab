"""`trace-generate show RUN.trace`: print the walkthrough from a recording, without the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from tracer.cli.conditions import checked_conditions
from tracer.cli.display import output_console
from tracer.cli.steps import StepSet
from tracer.errors import UsageError


@click.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="RUN.trace")
@click.option("--run", "number", type=int, metavar="N", help="Only this run of the file.")
@click.option(
    "--steps",
    type=StepSet(),
    default="1,2",
    show_default=True,
    metavar="1,2|3-7|all|none",
    help="Print these in full.",
)
@click.option("--only", is_flag=True, help="Leave out the header and the steps that --steps does not name.")
@click.option("--row", default=0, show_default=True, metavar="R", help="Row of a batch to show in full.")
@click.option(
    "--break",
    "breaks",
    multiple=True,
    metavar="EXPR",
    callback=checked_conditions,
    help="Print steps in full where this holds, e.g. 'p_chosen < 0.3'; repeatable.",
)
def show(
    path: Path,
    number: int | None,
    steps: Callable[[int], bool],
    only: bool,
    row: int,
    breaks: tuple[str, ...],
) -> None:
    """Print the walkthrough from a recording, without the model."""
    from reports.terminal import TerminalReport
    from tracer.analysis.conditions.breaks import BreakWatch
    from tracer.analysis.conditions.condition import parse_condition
    from tracer.tracefile import TraceFile

    with TraceFile(path) as recording:
        runs = [run for run in recording.runs if number in (None, run.number)]
        if not runs:
            raise UsageError(f"{path} has no run {number}; it has {len(recording.runs)}.")
        report = TerminalReport(output_console(), full_steps=steps, path=str(path), row=row)
        watch = BreakWatch([parse_condition(text) for text in breaks], report.on_hit)
        for run in runs:
            if row < 0 or row >= len(run.header.prompt):
                raise UsageError(f"--row {row}: run {run.number} has rows 0 to {len(run.header.prompt) - 1}.")
            report.on_run(run.number, run.header, run.tokens, printed=not only)
            watch.on_run(run.number, run.header, run.tokens)
            for step_number in run.steps.numbers:
                if only and not breaks and not steps(step_number):
                    continue
                step = run.steps.number(step_number)
                watch.on_step(step, run.tokens)
                if not only or watch.last or steps(step_number):
                    report.on_step(step, run.tokens)
            if not only:
                report.on_end(run.end, run.stamps)
