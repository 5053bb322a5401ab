"""`trace-generate info RUN.trace`: what a recording holds, in a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracer.cli.options import trace_argument
from tracer.cli.output import output_console

if TYPE_CHECKING:
    from tracer.schema.run import RunEnd


@click.command("info")
@trace_argument
def info_command(path: Path) -> None:
    """Say what a recording holds, in a few lines."""
    from rich.table import Table

    from reports.view.figures import byte_size, duration
    from reports.view.run.verification import stamp_notes
    from reports.view.text import plain
    from tracer.tracefile import TraceFile

    with TraceFile(path) as recording:
        file = recording.info
        console = output_console()
        console.print(
            f"{plain(str(path))}: trace format {file.format_version}, written by trace-generate "
            f"{plain(file.product_version)}, {byte_size(file.size)}",
            markup=False,
        )
        table = Table("run", "model", "prompt", "steps", "capture", "time", "state", box=None, pad_edge=False)
        for run in recording.runs:
            header, end = run.header, run.end
            rows, length = len(header.prompt), len(header.prompt[0].token_ids)
            table.add_row(
                str(run.number),
                f"{plain(header.model.class_name)} {header.model.dtype}",
                f"{length} tokens" if rows == 1 else f"{rows} rows of {length}",
                str(len(run.steps)),
                " ".join((header.capture.level, *map(plain, header.capture.save))),
                duration(end.seconds) if end else "",
                _state(end),
            )
        console.print(table)
        for run in recording.runs:
            for note in stamp_notes(run.stamps):
                console.print(f"run {run.number}: {note.text}", markup=False)


def _state(end: RunEnd | None) -> str:
    if end is None:
        return "incomplete: no end record"
    return f"{end.status.value}, ended by a break" if end.ended_by is not None else end.status.value
