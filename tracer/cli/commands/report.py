"""`trace-generate report RUN.trace -o page.html`: make the HTML report of a recording, without the model."""

from __future__ import annotations

from pathlib import Path

import click

from tracer.cli.options import force_option, only_run_option, redact_option, trace_argument


@click.command("report")
@trace_argument
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
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
    from tracer.output_files import check_target, write_text
    from tracer.reading import open_trace

    target = output or path.with_suffix(".html")
    with open_trace(path) as recording:
        check_target(target, force=force)
        write_text(target, recording.to_html(run=run_number, redact=redact), force=force)
    click.echo(str(target))
