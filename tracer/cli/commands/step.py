"""`trace-generate step RUN.trace`: step through a recording in the terminal, forwards and backwards."""

from __future__ import annotations

from pathlib import Path

import click

from tracer.cli.options import break_option, row_option, run_of_option, run_option, trace_argument
from tracer.cli.output import output_console


@click.command("step")
@trace_argument
@run_option
@row_option
@click.option("--stop-at", metavar="STOPS|all", default="all", show_default=True, help="Halt there.")
@break_option("Condition at which c and rc halt, e.g. 'p_chosen < 0.3'; repeatable.")
def step_command(path: Path, run_number: int | None, row: int, stop_at: str, breaks: tuple[str, ...]) -> None:
    """Step through a recording in the terminal, forwards and backwards, without the model."""
    from tracer.analysis.conditions.condition import parse_condition
    from tracer.halting.stops import parse_stops
    from tracer.replay.terminal.stepper import RecordedStepper
    from tracer.stepper.lines import open_lines
    from tracer.tracefile import TraceFile

    stops, console = parse_stops(stop_at), output_console()
    with TraceFile(path) as recording:
        stepper = RecordedStepper(
            run_of_option(recording, run_number),
            open_lines(console),
            console,
            stops=stops,
            breaks=[parse_condition(text) for text in breaks],
            row=row,
        )
        stepper.run()
