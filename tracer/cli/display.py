"""What the command line draws: consoles, and the progress of loading and of steps."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from tracer.schema.run import RunEnd, RunHeader, TokenText
    from tracer.schema.step import Step

_PIPE_WIDTH = 100
"""Width of output into a pipe or file, where there is no terminal to ask."""


def output_console() -> Console:
    """The console for results, on standard output."""
    piped = not sys.stdout.isatty()
    console = Console(highlight=False, soft_wrap=False)
    if piped and "COLUMNS" not in console._environ:  # noqa: SLF001 - rich offers no other way to ask
        console = Console(highlight=False, width=_PIPE_WIDTH)
    return console


class ProgressDisplay:
    """A line at the bottom of the terminal that says what is going on; nothing in a pipe.

    It is a :class:`~tracer.loading.progress.Progress` for loading and a listener for steps.
    """

    def __init__(self, console: Console, *, shown: bool) -> None:
        """Prepare a display.

        Args:
            console: the console that results go to if that is a terminal, else standard error's.
            shown: False to draw nothing.
        """
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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stop(self) -> None:
        """Draw nothing any more: something else asks at the terminal now."""
        self._progress.stop()

    def phase(self, text: str) -> None:
        """A new phase starts."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(text, total=None, amount="")

    def advance(self, done: int, total: int) -> None:
        """``done`` of ``total`` bytes are there."""
        if self._task is not None:
            amount = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"
            self._progress.update(self._task, completed=done, total=total, amount=amount)

    def on_run(self, number: int, header: RunHeader, tokens: Mapping[int, TokenText]) -> None:
        """A run begins."""
        self._prompt = len(header.prompt[0].token_ids)
        total = header.max_length - self._prompt if header.max_length else None
        self.phase(f"run {number}: generating")
        if self._task is not None:
            self._progress.update(self._task, total=total)

    def on_step(self, step: Step, tokens: Mapping[int, TokenText]) -> None:
        """A step is recorded."""
        if self._task is not None:
            self._progress.update(self._task, completed=step.number, amount=f"step {step.number}")

    def on_end(self, end: RunEnd) -> None:
        """The run is over."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
