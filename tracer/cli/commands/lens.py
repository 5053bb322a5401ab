"""`trace-generate lens RUN.trace --step N`: what each layer would have predicted."""

from __future__ import annotations

from pathlib import Path

import click

from tracer.cli.options import (
    json_option,
    row_option,
    run_of_option,
    run_option,
    step_option,
    trace_argument,
)
from tracer.cli.output import output_console, print_json


@click.command("lens")
@trace_argument
@step_option
@row_option
@run_option
@json_option
def lens_command(path: Path, number: int, row: int, run_number: int | None, as_json: bool) -> None:
    """Show what each layer would have predicted, from a run recorded with --lens."""
    from reports.terminal.questions.lens import render_lens
    from reports.view.questions.lens import lens_view
    from tracer.analysis.lens import read_lens
    from tracer.tracefile import TraceFile

    with TraceFile(path) as recording:
        run = run_of_option(recording, run_number)
        found = read_lens(run, number, row)
        if as_json:
            print_json(found)
            return
        output_console().print(render_lens(lens_view(found, run.tokens)))
