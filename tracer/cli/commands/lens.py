"""`trace-generate lens RUN.trace --step N`: what each layer would have predicted."""

from __future__ import annotations

from pathlib import Path

import click

from tracer.cli.display import output_console
from tracer.cli.recorded import print_json, the_run


@click.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="RUN.trace")
@click.option("--step", "number", type=int, required=True, metavar="N", help="Which step.")
@click.option("--row", default=0, show_default=True, metavar="R", help="Row of a batch.")
@click.option("--run", "run_number", type=int, metavar="N", help="Which run of the file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def lens(path: Path, number: int, row: int, run_number: int | None, as_json: bool) -> None:
    """Show what each layer would have predicted, from a run recorded with --lens."""
    from reports.terminal.questions.lens import render_lens
    from reports.view.questions.lens import lens_view
    from tracer.analysis.lens import read_lens
    from tracer.tracefile import TraceFile

    with TraceFile(path) as recording:
        run = the_run(recording, run_number)
        found = read_lens(run, number, row)
        if as_json:
            print_json(found)
            return
        output_console().print(render_lens(lens_view(found, run.tokens)))
