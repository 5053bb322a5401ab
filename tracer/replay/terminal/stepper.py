"""The stepper on a recording: reads commands and executes them, until it is left."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

from reports.terminal.halt import render_note, render_pairs, render_text
from reports.view.blocks import Note
from reports.view.text import plain
from tracer.analysis.conditions.condition import Condition, parse_condition
from tracer.analysis.runs import check_row
from tracer.errors import TraceGenerateError
from tracer.halting.stops import HALTS
from tracer.replay.ending import ending
from tracer.replay.terminal.commands import COMMANDS, HELP_END, parse_recorded
from tracer.replay.terminal.journey import Journey, break_notes
from tracer.replay.travel import Standstill, Travel
from tracer.schema.run import StopName
from tracer.stepper.completion import complete
from tracer.stepper.lines import Lines
from tracer.tracefile import TraceRun


class RecordedStepper:
    """Reads a command at each halt of a journey through a recording, and executes it.

    Args:
        run: the run.
        lines: source of the commands.
        console: where everything is printed.
        stops: the stops that it halts at.
        breaks: conditions that halt it from the start.
        row: row of the batch that is shown in full.

    Raises:
        UsageError: there is no such row, the run has no step, or passes none of the stops.
    """

    def __init__(
        self,
        run: TraceRun,
        lines: Lines,
        console: Console,
        *,
        stops: tuple[StopName, ...] = HALTS,
        breaks: Iterable[Condition] = (),
        row: int = 0,
    ) -> None:
        check_row(run.header, row)
        self._travel = Travel(run, stops)
        self._journey = Journey(self._travel, console, row)
        self._lines = lines
        self._console = console
        self._breaks = tuple(breaks)

    def run(self) -> None:
        """Step through the recording until the user leaves.

        Raises:
            KeyboardInterrupt: on Ctrl-C.
        """
        run, steps = self._travel.moment.run, self._travel.timeline.steps
        begin = f"Run {run.number}: steps {steps[0]} to {steps[-1]}. {ending(run)} h lists the commands."
        self._console.print(render_text([begin]))
        self._show_halt(self._travel.begin())
        while True:
            position = self._travel.position
            line = self._lines.read(f"({position.stop} {position.step}) ", self._complete)
            if line is None:
                return
            try:
                name, argument = parse_recorded(line)
                if name == "q":
                    return
                self._execute(name, argument)
            except TraceGenerateError as error:
                self._console.print(render_note(Note(plain(str(error)), "error")))

    def _execute(self, name: str, argument: str) -> None:
        if name == "h":
            self._help()
        elif name == "b" and argument:
            self._breaks = (*self._breaks, parse_condition(argument))
            self._console.print(render_text([f"halts where {each.text}" for each in self._breaks]))
        elif self._journey.moves(name):
            self._show_halt(self._journey.move(name, argument, self._breaks))
        else:
            self._journey.answer(name, argument)

    def _show_halt(self, halt: Standstill) -> None:
        """Print the cards, the place, and why it halts there."""
        if halt.reason == "beginning":
            self._journey.show(["The recording begins here."])
        elif halt.reason == "end":
            self._journey.show([ending(self._travel.moment.run)])
        else:
            self._journey.show(break_notes(halt))

    def _complete(self, text: str) -> Iterable[str]:
        return complete(text, COMMANDS, self._journey.arguments)

    def _help(self) -> None:
        rows = [(f"{each.name} {each.argument}".strip(), each.meaning) for each in COMMANDS]
        self._console.print(render_pairs(rows))
        self._console.print(render_text(HELP_END))
