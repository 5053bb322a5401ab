"""What commands print: consoles, the progress of loading and of steps, JSON, and how two runs differ."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from tracer.cli.standard_streams import discard_output
from tracer.errors import DIFFERENT
from tracer.harmless_text import harmless
from tracer.json_values import json_ready
from tracer.output_files import is_standard_output

if TYPE_CHECKING:
    from tracer.analysis.diff.report import DiffReport
    from tracer.forking.forking import Forked
    from tracer.loading.prompts import PreparedInputs
    from tracer.schema.run import RunEnd, RunHeader, TokenText
    from tracer.schema.step import Step
    from tracer.tracefile import TraceRun

_PIPE_WIDTH = 100
"""Width of output into a pipe or file, where there is no terminal to ask."""


class OutputConsole(Console):
    """The console for results, on standard output.

    Args:
        outlives_output: go on without printing when nothing can be printed any more, because the reader of a
            pipe went away (``| head -1``) or the device is full, instead of ending.
        options: of the console.

    Attributes:
        fault: why nothing is printed any more; None if all is printed, or the reader has read enough.
    """

    def __init__(self, *, outlives_output: bool, **options: Any) -> None:
        super().__init__(highlight=False, soft_wrap=False, **options)
        self._outlives_output = outlives_output
        self.fault: OSError | None = None

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does."""
        try:
            super().print(*objects, **options)
        except OSError as error:
            if not self._outlives_output:
                raise
            self.fault = error
            self._fall_silent()

    def on_broken_pipe(self) -> None:
        """Print nothing from now on, or end."""
        if not self._outlives_output:
            super().on_broken_pipe()
        self._fall_silent()

    def _fall_silent(self) -> None:
        self.quiet = True
        discard_output()


def output_console(*, outlives_output: bool = False) -> OutputConsole:
    """The console for results, of a fixed width where there is no terminal to ask.

    Args:
        outlives_output: see :class:`OutputConsole`.
    """
    console = OutputConsole(outlives_output=outlives_output)
    # rich offers no other way to ask
    if not sys.stdout.isatty() and "COLUMNS" not in console._environ:  # noqa: SLF001
        console = OutputConsole(outlives_output=outlives_output, width=_PIPE_WIDTH)
    return console


def say(text: str, *, err: bool = False) -> None:
    """Print text as it is; on a terminal, nothing in it acts there.

    Args:
        text: one line or several.
        err: print it on standard error.
    """
    stream = sys.stderr if err else sys.stdout
    # With colour, since click would leave out of a pipe what looks like an escape sequence.
    click.echo(harmless(text, keep="\n\t") if stream.isatty() else text, err=err, color=True)


def say_path(target: Path, text: str) -> None:
    """Say where something was written, unless that was standard output itself.

    Args:
        target: where.
        text: what to say.
    """
    if not is_standard_output(target):
        say(text)


class ProgressDisplay:
    """A line at the bottom of the terminal that shows what is going on; nothing in a pipe.

    It is a :class:`~tracer.loading.progress.Progress` for loading and a listener for steps.

    Args:
        console: the console that results go to if that is a terminal, else standard error's.
        shown: False to draw nothing.
    """

    def __init__(self, console: Console, *, shown: bool) -> None:
        target = console if console.is_terminal else Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[amount]}"),
            TimeElapsedColumn(),
            console=target,
            transient=True,
            disable=not (shown and target.is_terminal),
        )
        self._task: TaskID | None = None
        self._prompt = 0

    def __enter__(self) -> ProgressDisplay:
        self._progress.start()
        self.phase("starting")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stop(self) -> None:
        """Stop drawing: something else uses the terminal from now on."""
        self._progress.stop()

    def phase(self, text: str) -> None:
        """Show the name of a new phase."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(text, total=None, amount="")

    def advance(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` bytes have arrived."""
        if self._task is not None:
            amount = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"
            self._progress.update(self._task, completed=done, total=total, amount=amount)

    def on_run(self, number: int, header: RunHeader, tokens: Mapping[int, TokenText]) -> None:
        """Show a run that begins, with as many steps as it may have."""
        self._prompt = len(header.prompt[0].token_ids)
        total = header.max_length - self._prompt if header.max_length else None
        self.phase(f"run {number}: generating")
        if self._task is not None:
            self._progress.update(self._task, total=total)

    def on_step(self, step: Step, tokens: Mapping[int, TokenText]) -> None:
        """Show the number of a recorded step."""
        if self._task is not None:
            self._progress.update(self._task, completed=step.number, amount=f"step {step.number}")

    def on_end(self, end: RunEnd) -> None:
        """Remove the line of a run that is over."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None


def print_json(value: object) -> None:
    """Print a report as one JSON object.

    Args:
        value: dataclasses, records and plain values; numbers that JSON lacks become text.
    """
    ready = json_ready(value)
    text = json.dumps(ready, ensure_ascii=sys.stdout.isatty())
    if any("\ud800" <= char <= "\udfff" for char in text):  # a path that is no text cannot stand in UTF-8
        text = json.dumps(ready)
    click.echo(text.replace("\x7f", "\\u007f"))


def print_notes(inputs: PreparedInputs) -> None:
    """Print on standard error what the user should know about the prompt."""
    for note in inputs.notes:
        say(f"note: {note}", err=True)


def print_repetition(forked: Forked) -> None:
    """Print whether a fork repeats its parent up to its step, and what the user should know about it."""
    from reports.view.text import plain

    origin = forked.origin
    if forked.same_prefix:
        click.echo(f"✓ the steps before step {origin.step} repeat run {origin.run} bit for bit")
    for note in forked.notes:
        click.echo(f"! {plain(note)}")


def print_difference(
    runs: tuple[TraceRun, TraceRun],
    names: tuple[str, str],
    *,
    tolerance: float | None,
    as_json: bool,
    page: Path | None,
    force: bool,
) -> int:
    """Compare two runs, print the result, and write the HTML page if one is wanted.

    Args:
        runs: the runs.
        names: what to call them.
        tolerance: see ``--tolerance``.
        as_json: print one JSON object instead of text.
        page: where the HTML page goes; None for none.
        force: replace an existing page.

    Returns:
        The exit code: 0 for the same, else 1.
    """
    from tracer.analysis.diff import diff

    report = diff(*runs, tolerance=tolerance)
    if as_json:
        print_json(report)
    else:
        _print_diff(report, runs, names)
    if page is not None:
        _write_comparison(page, report, runs, names, force=force)
        if not as_json:
            say_path(page, f"report: {page}")
    return 0 if report.same else DIFFERENT


def _print_diff(report: DiffReport, runs: tuple[TraceRun, TraceRun], names: tuple[str, str]) -> None:
    from reports.terminal.questions.diff import render_diff
    from reports.view.questions.diff import both_texts, diff_view

    ids = [token for each in report.tokens for token in (each.token_a, each.token_b)]
    texts = both_texts(*(run.tokens for run in runs), ids=ids)
    output_console().print(render_diff(diff_view(report, names, texts)))


def _write_comparison(
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
