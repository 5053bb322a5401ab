"""`trace-generate tree RUN.trace`: how the runs of a file branch off one another."""

from __future__ import annotations

from pathlib import Path

import click

from tracer.cli.options import json_option, row_option, trace_argument
from tracer.cli.output import output_console, print_json


@click.command("tree")
@trace_argument
@row_option
@json_option
def tree_command(path: Path, row: int, as_json: bool) -> None:
    """Show how the runs of a file branch off one another: tokens, probabilities, ends."""
    from reports.terminal.tree import render_tree
    from tracer.analysis.branches import branches
    from tracer.tracefile import TraceFile

    with TraceFile(path) as recording:
        runs = {run.number: run for run in recording.runs}
        found = branches(runs, row)
        if as_json:
            print_json({"branches": found})
        else:
            output_console().print(render_tree(found, runs, row))
