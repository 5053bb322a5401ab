"""`trace-generate attention RUN.trace --step N`: which positions each layer and head attends to."""

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
from tracer.errors import UsageError


@click.command("attention")
@trace_argument
@step_option
@click.option("--layer", type=int, metavar="L", help="Show the heads of this layer (default: all layers).")
@click.option("--head", type=int, metavar="H", help="With --layer: show every position for this head.")
@row_option
@run_option
@json_option
def attention_command(
    path: Path,
    number: int,
    layer: int | None,
    head: int | None,
    row: int,
    run_number: int | None,
    as_json: bool,
) -> None:
    """Show what the last position looks at, from a run recorded with --save attention."""
    from reports.terminal.questions.attention import render_attention
    from reports.view.questions.attention import attention_view
    from tracer.analysis.attention import read_attention
    from tracer.tracefile import TraceFile

    if head is not None and layer is None:
        raise UsageError("--head needs --layer.")
    with TraceFile(path) as recording:
        run = run_of_option(recording, run_number)
        found = read_attention(run, number, row)
        heads = len(found.layer(layer).weights) if layer is not None else 0
        if head is not None and not 0 <= head < heads:
            raise UsageError(f"--head {head}: layer {layer} has heads 0 to {heads - 1}.")
        if as_json:
            print_json(found)
            return
        view = attention_view(found, run.tokens, layer=layer, head=head)
        output_console().print(render_attention(view))
