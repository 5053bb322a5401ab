"""The walkthrough, printed as the steps happen or from a trace."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Literal, cast

from rich.console import Console

from reports.terminal.header import render_header
from reports.terminal.page import PageRenderable
from reports.terminal.step_line import render_line
from reports.terminal.stops.card import draw_note, render_step
from reports.terminal.summary import render_summary
from reports.view.blocks import Note
from reports.view.run.header import header_view
from reports.view.run.last_tokens import LastTokens
from reports.view.run.step_line import step_line
from reports.view.run.summary import summary
from reports.view.run.totals import RunTotals
from reports.view.stops.step import step_view
from reports.view.text import plain
from tracer.analysis.conditions.condition import Hit
from tracer.schema.run import RunEnd, RunHeader, TokenText
from tracer.schema.stamp import Stamp
from tracer.schema.step import Step


class TerminalReport:
    """Prints runs; all methods may be called from any one thread.

    Attributes:
        console: where it prints.
    """

    def __init__(
        self,
        console: Console,
        *,
        full_steps: Callable[[int], bool] = lambda step: step <= 2,
        path: str | None = None,
        row: int = 0,
    ) -> None:
        """Print nothing yet; the methods do.

        Args:
            console: where to print.
            full_steps: which steps are printed in full; the others get one line.
            path: where the trace is, said at the end.
            row: the row of a batch that is shown in full.
        """
        self.console = console
        self._full_steps = full_steps
        self._path = path
        self._row = row
        self._header: RunHeader | None = None
        self._shown_model: object = None
        self._number = 1
        self._totals = RunTotals()
        self._last: LastTokens | None = None
        self._texts: ChainMap[int, TokenText] = ChainMap()
        self._in_lines = False
        self._hit: Hit | None = None

    def on_run(
        self,
        number: int,
        header: RunHeader,
        tokens: Mapping[int, TokenText] | None = None,
        *,
        printed: bool = True,
    ) -> None:
        """A run begins.

        Args:
            number: its number, from 1.
            header: its header.
            tokens: texts of the prompt's tokens, if they are known already.
            printed: False to know the header without printing it.
        """
        self._learn(tokens or {})
        self._number, self._totals, self._last = number, RunTotals(), LastTokens(header)
        self._header, self._in_lines = header, False
        if not printed:
            return
        same_model = self._shown_model == header.model
        self._shown_model = header.model
        self.console.print(render_header(header_view(header, self._texts), number, same_model=same_model))

    def on_hit(self, hit: Hit) -> None:
        """A condition holds in the step that comes next; it will be printed in full."""
        self._hit = self._hit or hit
        note = Note(f"break: {plain(str(hit))}", "warning")
        self.console.print(PageRenderable(lambda page: draw_note(page, note)))

    def on_step(
        self,
        step: Step,
        tokens: Mapping[int, TokenText],
        *,
        as_what: Literal["usual", "line", "nothing"] = "usual",
    ) -> None:
        """A step is recorded.

        Args:
            step: the step.
            tokens: texts of its tokens; those of earlier steps are remembered.
            as_what: how to print it: as ``full_steps`` says, in one line, or not at all; it is counted.
        """
        self._learn(tokens)
        self._totals.add(step)
        before = self._split_before(step)
        hit, self._hit = self._hit, None
        if as_what == "nothing":
            self._in_lines = False
            return
        failed = step.head.failure is not None
        full = as_what == "usual" and (hit is not None or failed or self._full_steps(step.number))
        if self._header is not None and full:
            row = self._row if hit is None or hit.row is None else hit.row
            view = step_view(self._header, step, self._texts, row=min(row, step.rows - 1), before=before)
            self.console.print(render_step(view))
            self._in_lines = False
        else:
            line = step_line(step, self._texts, self._header.modules if self._header else (), before)
            self.console.print(render_line(line, heading=not self._in_lines))
            self._in_lines = True

    def on_end(self, end: RunEnd | None, stamps: Sequence[Stamp] = ()) -> None:
        """The run is over.

        Args:
            end: its end record; None when the trace has none.
            stamps: results of later verifications.
        """
        totals = self._totals
        view = summary(
            end,
            header=self._header,
            run=self._number,
            steps=totals.steps,
            generated=totals.generated,
            violations=totals.violations,
            errors=totals.errors,
            interventions=totals.interventions,
            gaps=[*totals.gaps()],
            path=self._path,
            stamps=stamps,
        )
        self.console.print(render_summary(view))

    def _split_before(self, step: Step) -> tuple[bytes, ...]:
        """Bytes of a character that what comes before a step's choice leaves unfinished, a row each."""
        if self._last is None:
            return ()
        before = self._last.before(step, self._texts)
        self._last.add(step)
        return before

    def _learn(self, tokens: Mapping[int, TokenText]) -> None:
        """Remember texts without copying them: a trace reads each only when it is asked for."""
        if all(tokens is not known for known in self._texts.maps):
            # A chain is written to only through its own methods, which are not used here.
            self._texts = ChainMap(cast("MutableMapping[int, TokenText]", tokens), *self._texts.maps)
