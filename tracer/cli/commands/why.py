"""`trace-generate why RUN.trace --step N --token …`: a token's way through a step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracer.cli.options import (
    json_option,
    no_torch_option,
    row_option,
    run_of_option,
    run_option,
    step_option,
    token_of_option,
    trace_argument,
)
from tracer.cli.output import output_console, print_json

if TYPE_CHECKING:
    from tracer.analysis.draw import NearMisses, Replayer
    from tracer.tracefile import TraceRun


@click.command("why")
@trace_argument
@step_option
@click.option("--token", "query", metavar="TEXT|ID", help="Which token (default: the one that was chosen).")
@row_option
@run_option
@no_torch_option("the draw is not repeated")
@json_option
def why_command(
    path: Path,
    number: int,
    query: str | None,
    row: int,
    run_number: int | None,
    no_torch: bool,
    as_json: bool,
) -> None:
    """Say why a token was chosen or not: each processor's margin, and what would have changed it."""
    from reports.terminal.questions.why import render_why
    from reports.view.questions.why import why_view
    from tracer.analysis.runs import LOGITS, check_row, step_of
    from tracer.analysis.why import why_in_run
    from tracer.rerun.replayer import make_replayer
    from tracer.tracefile import TraceFile

    with TraceFile(path) as recording:
        run = run_of_option(recording, run_number)
        check_row(run.header, row)
        step = step_of(run, number)
        choice = step.choice(row)
        token = token_of_option(query, run) if query is not None else choice.token if choice else 0
        drawn = step.head.draw is not None
        saved = LOGITS in run.tensor_names(number)
        replayer = make_replayer(wanted=not no_torch and (drawn or saved))
        report = why_in_run(run, number, token, row, replayer=replayer)
        draw, note = _repeated(run, number, row, replayer) if drawn else (None, "")
        if as_json:
            print_json({"why": report, "draw": draw, "draw_note": note})
            return
        view = why_view(report, run.tokens, draw=draw, draw_note=note)
        output_console().print(render_why(view))


def _repeated(
    run: TraceRun, number: int, row: int, replayer: Replayer | None
) -> tuple[NearMisses | None, str]:
    """The first places of the draw, or why they are not known."""
    from tracer.analysis.draw import near_misses
    from tracer.errors import UnsupportedError, UsageError

    if replayer is None:
        return None, "Which tokens nearly won this draw can be said with torch only."
    try:
        return near_misses(run, number, replayer, row=row), ""
    except (UnsupportedError, UsageError) as error:
        return None, f"It cannot be repeated: {error}."
