"""`trace-generate diff A.trace B.trace`: where two runs part, and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracer.cli.display import output_console
from tracer.cli.recorded import print_json, the_run
from tracer.errors import DIFFERENT, UsageError

if TYPE_CHECKING:
    from tracer.analysis.diff.report import DiffReport
    from tracer.tracefile import TraceRun


def page_option(usual: str) -> Callable[[Any], Any]:
    """``--html [PATH]``.

    Args:
        usual: where the page goes without a path, for the help.
    """
    return click.option(
        "--html",
        "page",
        is_flag=False,
        flag_value="",
        metavar="[PATH]",
        help=f"Make an HTML page of both runs side by side (default: {usual}).",
    )


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
@page_option("A-B.html beside A.trace")
@click.option("--force", is_flag=True, help="Replace an existing page.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def diff(
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
    from tracer.tracefile import TraceFile

    target = page_target(page, a.with_name(f"{a.stem}-{b.stem}.html"), force=force, apart_from=(a, b))
    with TraceFile(a) as first, TraceFile(b) as second:
        runs = the_run(first, run_a, "--run-a"), the_run(second, run_b, "--run-b")
        return show_difference(
            runs, (str(a), str(b)), tolerance=tolerance, as_json=as_json, page=target, force=force
        )


def page_target(
    given: str | None, usual: Path, *, force: bool, apart_from: tuple[Path, ...] = ()
) -> Path | None:
    """Where the page goes, refused before any work is done for it; None for no page.

    Args:
        given: what follows ``--html``, empty for nothing; None without the option.
        usual: where to if nothing follows.
        force: replace an existing page.
        apart_from: files that it must not replace.

    Raises:
        UsageError: the page would replace a trace.
        OutputError: it exists already, or its folder does not.
    """
    if given is None:
        return None
    from tracer.output_files import check_target

    target = Path(given) if given else usual
    if target.resolve() in [path.resolve() for path in apart_from]:
        raise UsageError(f"--html {target} is one of the traces; name another file after --html.")
    check_target(target, force=force)
    return target


def show_difference(
    runs: tuple[TraceRun, TraceRun],
    names: tuple[str, str],
    *,
    tolerance: float | None,
    as_json: bool,
    page: Path | None,
    force: bool,
) -> int:
    """Compare two runs, print the result, and make the page if one is wanted.

    Args:
        runs: the runs.
        names: what to call them.
        tolerance: see ``--tolerance``.
        as_json: print an object instead of the page.
        page: where the HTML page goes; None for none.
        force: replace an existing page.

    Returns:
        The exit code: 0 for the same, else 1.
    """
    from tracer.analysis.diff import diff as compare_runs

    report = compare_runs(*runs, tolerance=tolerance)
    if as_json:
        print_json(report)
    else:
        _print_report(report, runs, names)
    if page is not None:
        _write_page(page, report, runs, names, force=force)
        if not as_json:
            click.echo(f"report {page}")
    return 0 if report.same else DIFFERENT


def _print_report(report: DiffReport, runs: tuple[TraceRun, TraceRun], names: tuple[str, str]) -> None:
    from reports.terminal.questions.diff import render_diff
    from reports.view.questions.diff import both_texts, diff_view

    ids = [token for each in report.tokens for token in (each.token_a, each.token_b)]
    texts = both_texts(*(run.tokens for run in runs), ids=ids)
    output_console().print(render_diff(diff_view(report, names, texts)))


def _write_page(
    page: Path,
    report: DiffReport,
    runs: tuple[TraceRun, TraceRun],
    names: tuple[str, str],
    *,
    force: bool,
) -> None:
    from reports.html import render_comparison
    from reports.view.questions.comparison import comparison_view
    from tracer.output_files import write_text

    write_text(page, render_comparison(comparison_view(*runs, report, names)), force=force)
