"""The stepper on a recording: shows each halt, and executes commands until it is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from rich.console import Console, RenderableType

from reports.terminal import render_card
from reports.terminal.halt import render_halt, render_note, render_pairs, render_text
from reports.view.blocks import Note
from reports.view.stops.step import stop_title
from reports.view.text import plain
from tracer.analysis.conditions.condition import Condition, parse_condition
from tracer.analysis.runs import check_row
from tracer.errors import TraceGenerateError, UsageError
from tracer.halting.stops import HALTS
from tracer.replay.answers.questions import answer_why, other_settings
from tracer.replay.cards import cards_at
from tracer.replay.ending import ending
from tracer.replay.stack.frames import Frame, frames_at
from tracer.replay.stack.sources import Sources
from tracer.replay.terminal import answers
from tracer.replay.terminal.commands import COMMANDS, HELP_END, parse_recorded
from tracer.replay.terminal.rules import ConditionRules
from tracer.replay.travel import Standstill, Travel
from tracer.replay.values.library import local_variables
from tracer.schema.run import STOPS, StopName
from tracer.stepper.commands import parse_count
from tracer.stepper.completion import complete, condition_names, trace_files, whatif_settings
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
        self._sources = Sources(run.header)
        self._lines = lines
        self._console = console
        self._breaks = tuple(breaks)
        self._row = row
        self._moving: dict[str, Callable[[str], Standstill | None]] = {
            "n": lambda _: self._travel.stop_by_stop(self._rules(), back=False),
            "s": lambda _: self._travel.token_by_token(self._rules(), back=False),
            "c": lambda _: self._travel.run(self._rules(), back=False),
            "u": lambda text: self._travel.run(self._rules(text), back=False),
            "b": self._back_or_break,
            "sb": lambda _: self._travel.token_by_token(self._rules(), back=True),
            "rc": lambda text: self._travel.run(self._rules(text), back=True),
            "g": self._go,
        }
        self._answering: dict[str, Callable[[str], None]] = {
            "p": lambda text: self._show(
                answers.evaluated(self._travel.moment, self._frames()[0], self._row, text)
            ),
            "l": lambda text: self._show(answers.recorded_listing(self._frames()[0], parse_count(text, 9))),
            "w": lambda _: self._show(answers.recorded_stack(self._frames())),
            "kv": lambda _: self._show(answers.recorded_cache(self._travel.moment)),
            "top": lambda text: self._show(
                answers.recorded_top(self._travel.moment, parse_count(text, 10), self._row)
            ),
            "why": lambda text: self._show(answer_why(self._travel.moment, self._row, text)),
            "whatif": lambda text: self._show(other_settings(self._travel.moment, text)),
            "diff": lambda text: self._show(answers.differs(self._travel.moment, text)),
            "h": lambda _: self._help(),
        }

    def run(self) -> None:
        """Step through the recording until the user leaves.

        Raises:
            KeyboardInterrupt: on Ctrl-C.
        """
        run, steps = self._travel.moment.run, self._travel.timeline.steps
        begin = f"Run {run.number}: steps {steps[0]} to {steps[-1]}. {ending(run)} h lists the commands."
        self._show(render_text([begin]))
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
                self._say(str(error), "error")

    def _execute(self, name: str, argument: str) -> None:
        if name in self._answering:
            self._answering[name](argument)
            return
        halt = self._moving[name](argument)
        if halt is not None:
            self._show_halt(halt)

    def _show_halt(self, halt: Standstill) -> None:
        """Print the cards, the place, and why it halts there."""
        moment = self._travel.moment
        for card in cards_at(moment, self._travel.timeline.stops, self._row):
            self._show(render_card(card))
        frame = self._frames()[0]
        self._show(
            render_halt(
                f"Step {moment.position.step}, before {STOPS.index(frame.stop)} {stop_title(frame.stop)}",
                f"{frame.source.file.split('/', 1)[-1]}:{frame.line}" if frame.source else "",
                frame.source.lines_around(frame.line, 2) if frame.source else [],
                frame.line,
                [Note(plain(text), "warning") for text in self._notes(halt)],
            )
        )

    def _notes(self, halt: Standstill) -> list[str]:
        if halt.reason == "beginning":
            return ["The recording begins here."]
        if halt.reason == "end":
            return [ending(self._travel.moment.run)]
        return [f"break: {text}" for text in halt.text.splitlines()]

    def _rules(self, condition: str = "") -> ConditionRules:
        once = (parse_condition(condition),) if condition else ()
        return ConditionRules((*self._breaks, *once))

    def _back_or_break(self, argument: str) -> Standstill | None:
        if not argument:
            return self._travel.stop_by_stop(self._rules(), back=True)
        self._breaks = (*self._breaks, parse_condition(argument))
        self._show(render_text([f"halts where {condition.text}" for condition in self._breaks]))
        return None

    def _go(self, argument: str) -> Standstill:
        if not (argument.isascii() and argument.isdigit() and len(argument) < 10):
            raise UsageError(f"{argument[:40]!r} is no number of a step; g 12 goes to step 12.")
        return self._travel.go(self._travel.timeline.at(int(argument)))

    def _frames(self) -> tuple[Frame, ...]:
        moment = self._travel.moment
        return frames_at(moment.position, moment.header, self._sources)

    def _complete(self, text: str) -> Iterable[str]:
        return complete(text, COMMANDS, self._arguments)

    def _arguments(self, name: str) -> Iterable[str]:
        if name in ("u", "b", "rc"):
            return condition_names(None)
        if name == "p":
            names = local_variables(self._travel.moment, self._frames()[0].kind)
            return sorted((*names, *condition_names(None)))
        return {"whatif": whatif_settings, "diff": trace_files}.get(name, lambda _: ())(None)

    def _help(self) -> None:
        self._show(
            render_pairs([(f"{each.name} {each.argument}".strip(), each.meaning) for each in COMMANDS])
        )
        self._show(render_text(HELP_END))

    def _show(self, what: RenderableType) -> None:
        self._console.print(what)

    def _say(self, text: str, level: Literal["error", "warning"]) -> None:
        self._show(render_note(Note(plain(text), level)))
