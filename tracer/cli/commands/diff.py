"""`trace-generate diff A.trace B.trace`: where two runs part, and why."""

from __future__ import annotations

from pathlib import Path

import click

from tracer.cli.options import (
    FILE,
    NUMBER,
    comparison_page,
    comparison_page_option,
    force_option,
    json_option,
    run_of_option,
)
from tracer.cli.output import print_difference


@click.command("diff")
@click.argument("a", type=FILE, metavar="A.trace")
@click.argument("b", type=FILE, metavar="B.trace")
@click.option(
    "--tolerance",
    type=NUMBER,
    metavar="X",
    help="Largest relative difference that counts as the same; 0 for none "
    "(default: what the dtypes explain).",
)
@click.option("--run-a", type=int, metavar="N", help="Which run of A.trace.")
@click.option("--run-b", type=int, metavar="N", help="Which run of B.trace.")
@comparison_page_option("A-B.html beside A.trace")
@force_option("an existing page")
@json_option
def diff_command(
    a: Path,
    b: Path,
    tolerance: float | None,
    run_a: int | None,
    run_b: int | None,
    page: str | None,
    force: bool,
    as_json: bool,
) -> int:
    """Say where two runs part, and whether it is the draw, rounding, padding, the cache or the model.

    Exit code 0: the same; 1: they differ.
    """
    target = comparison_page(page, a.with_name(f"{a.stem}-{b.stem}.html"), force=force, apart_from=(a, b))
    from tracer.tracefile import TraceFile

    with TraceFile(a) as first, TraceFile(b) as second:
        runs = run_of_option(first, run_a, "--run-a"), run_of_option(second, run_b, "--run-b")
        return print_difference(
            runs, (str(a), str(b)), tolerance=tolerance, as_json=as_json, page=target, force=force
        )
