"""`trace-generate attention RUN.trace --step N`: which positions each layer and head looks at."""

from __future__ import annotations

from pathlib import Path

import click

from tracer.cli.display import output_console
from tracer.cli.recorded import print_json, the_run
from tracer.errors import UsageError


@click.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="RUN.trace")
@click.option("--step", "number", type=int, required=True, metavar="N", help="Which step.")
@click.option("--layer", type=int, metavar="L", help="Show the heads of this layer (default: all layers).")
@click.option("--head", type=int, metavar="H", help="With --layer: show every position for this head.")
@click.option("--row", default=0, show_default=True, metavar="R", help="Row of a batch.")
@click.option("--run", "run_number", type=int, metavar="N", help="Which run of the file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def attention(
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
        run = the_run(recording, run_number)
        found = read_attention(run, number, row)
        heads = len(found.layer(layer).weights) if layer is not None else 0
        if head is not None and not 0 <= head < heads:
            raise UsageError(f"--head {head}: layer {layer} has heads 0 to {heads - 1}.")
        if as_json:
            print_json(found)
            return
        view = attention_view(found, run.tokens, layer=layer, head=head)
        output_console().print(render_attention(view))
