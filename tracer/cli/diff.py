"""`trace-generate diff A.trace B.trace`: where two runs part, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracer.cli.display import output_console
from tracer.cli.recorded import print_json, the_run
from tracer.errors import DIFFERENT

if TYPE_CHECKING:
    from tracer.tracefile import RunReading


@click.command()
@click.argument("a", type=click.Path(path_type=Path), metavar="A.trace")
@click.argument("b", type=click.Path(path_type=Path), metavar="B.trace")
@click.option(
    "--tolerance",
    type=float,
    metavar="X",
    help="Largest relative difference that counts as the same; 0 for none "
    "(default: what the dtypes explain).",
)
@click.option("--run-a", type=int, metavar="N", help="Which run of A.trace.")
@click.option("--run-b", type=int, metavar="N", help="Which run of B.trace.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def diff(
    a: Path, b: Path, tolerance: float | None, run_a: int | None, run_b: int | None, as_json: bool
) -> int:
    """Say where two runs part, and whether it is the draw, rounding, padding, the cache or the model.

    Exit code 0: the same; 1: they differ.
    """
    from tracer.tracefile import open_trace

    with open_trace(a) as first, open_trace(b) as second:
        runs = the_run(first, run_a, "--run-a"), the_run(second, run_b, "--run-b")
        return show_difference(runs, (str(a), str(b)), tolerance=tolerance, as_json=as_json)


def show_difference(
    runs: tuple[RunReading, RunReading],
    names: tuple[str, str],
    *,
    tolerance: float | None,
    as_json: bool,
) -> int:
    """Compare two runs and print the result.

    Args:
        runs: the runs.
        names: what to call them.
        tolerance: see ``--tolerance``.
        as_json: print an object instead of the page.

    Returns:
        The exit code: 0 for the same, else 1.
    """
    from reports.terminal.diff import render_diff
    from reports.view.diff import both_texts, diff_view
    from tracer.analysis.diff import diff as compare_runs

    report = compare_runs(*runs, tolerance=tolerance)
    if as_json:
        print_json(report)
    else:
        ids = [token for each in report.tokens for token in (each.token_a, each.token_b)]
        texts = both_texts(*(run.tokens for run in runs), ids=ids)
        output_console().print(render_diff(diff_view(report, names, texts)))
    return 0 if report.same else DIFFERENT
