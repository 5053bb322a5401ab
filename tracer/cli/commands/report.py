"""`trace-generate report RUN.trace -o page.html`: make the HTML report of a recording, without the model."""

from __future__ import annotations

from pathlib import Path

import click

from tracer.cli.options import (
    FILE,
    force_option,
    only_run_option,
    page_beside,
    redact_option,
    trace_argument,
)
from tracer.cli.output import say_path


@click.command("report")
@trace_argument
@click.option(
    "--output",
    "-o",
    type=FILE,
    metavar="PAGE.html",
    help="Where to (default: beside the trace).",
)
@only_run_option
@redact_option
@force_option("an existing page")
def report_command(
    path: Path, output: Path | None, run_number: int | None, redact: bool, force: bool
) -> None:
    """Make one HTML file that steps through a recording in any browser, offline."""
    from tracer.output_files import check_output, write_text
    from tracer.reading import open_trace

    target = output or page_beside(path)
    with open_trace(path) as recording:
        check_output(target, force=force)
        write_text(target, recording.to_html(run=run_number, redact=redact), force=force)
    say_path(target, str(target))
