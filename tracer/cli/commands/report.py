"""`trace-generate report RUN.trace -o page.html`: make the HTML report of a recording, without the model."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="RUN.trace")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="PAGE.html",
    help="Where to (default: beside the trace).",
)
@click.option("--run", "number", type=int, metavar="N", help="Only this run of the file.")
@click.option(
    "--redact", is_flag=True, help="Leave out the text of prompts and tokens, token ids and absolute paths."
)
@click.option("--force", is_flag=True, help="Replace an existing page.")
def report(path: Path, output: Path | None, number: int | None, redact: bool, force: bool) -> None:
    """Make one HTML file that steps through a recording in any browser, offline."""
    from tracer.output_files import check_target, write_text
    from tracer.reading import open_trace

    target = output or path.with_suffix(".html")
    with open_trace(path) as recording:
        check_target(target, force=force)
        write_text(target, recording.to_html(run=number, redact=redact), force=force)
    click.echo(str(target))
