"""Moving through a run and asking about where one stands: what the commands do, whoever reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from rich.console import Console, RenderableType

from reports.terminal import render_card
from reports.terminal.halt import render_halt
from reports.view.blocks import Note
from reports.view.stops.step import stop_title
from reports.view.text import plain
from tracer.analysis.conditions.condition import Condition, parse_condition
from tracer.errors import UsageError
from tracer.replay.answers.questions import answer_why, other_settings
from tracer.replay.cards import cards_at
from tracer.replay.stack.frames import Frame, frames_at
from tracer.replay.stack.sources import Sources
from tracer.replay.terminal import answers
from tracer.replay.terminal.rules import ConditionRules
from tracer.replay.travel import Standstill, Travel
from tracer.replay.values.library import local_variables
from tracer.stepper.commands import parse_count
from tracer.stepper.completion import condition_names, fork_settings, trace_files, whatif_settings


class Journey:
    """A journey through a run, whose halts are printed.

    Args:
        travel: moves through the run.
        console: where everything is printed.
        row: row of the batch that is shown in full.

    Attributes:
        travel: the same.
    """

    def __init__(self, travel: Travel, console: Console, row: int = 0) -> None:
        self.travel = travel
        self._console = console
        self._row = row
        self._sources = Sources(travel.moment.header)
        self._moves: dict[str, Callable[[str, ConditionRules], Standstill]] = {
            "n": lambda _, rules: travel.stop_by_stop(rules, back=False),
            "s": lambda _, rules: travel.token_by_token(rules, back=False),
            "c": lambda _, rules: travel.run(rules, back=False),
            "u": lambda _, rules: travel.run(rules, back=False),
            "b": lambda _, rules: travel.stop_by_stop(rules, back=True),
            "sb": lambda _, rules: travel.token_by_token(rules, back=True),
            "rc": lambda _, rules: travel.run(rules, back=True),
            "g": lambda text, _: travel.go(travel.timeline.at(_step_number(text))),
        }
        self._answers: dict[str, Callable[[str], RenderableType]] = {
            "p": lambda text: answers.evaluated(travel.moment, self._frames()[0], row, text),
            "l": lambda text: answers.recorded_listing(self._frames()[0], parse_count(text, 9)),
            "w": lambda _: answers.recorded_stack(self._frames()),
            "kv": lambda _: answers.recorded_cache(travel.moment),
            "top": lambda text: answers.recorded_top(travel.moment, parse_count(text, 10), row),
            "why": lambda text: answer_why(travel.moment, row, text),
            "whatif": lambda text: other_settings(travel.moment, text),
            "diff": lambda text: answers.differs(travel.moment, text),
        }

    def moves(self, name: str) -> bool:
        """Whether a command is one that moves."""
        return name in self._moves

    def move(self, name: str, argument: str, breaks: Iterable[Condition]) -> Standstill:
        """Execute a command that moves.

        Args:
            name: the command.
            argument: its argument; of ``u`` and ``rc`` a condition that is meant once.
            breaks: the conditions in force.

        Raises:
            UsageError: there is no such step, or the condition cannot be read.
        """
        once = (parse_condition(argument),) if argument and name in ("u", "rc") else ()
        return self._moves[name](argument, ConditionRules((*breaks, *once)))

    def answer(self, name: str, argument: str) -> None:
        """Print the answer to a question about where one stands.

        Args:
            name: the command.
            argument: its argument.

        Raises:
            UsageError: it cannot be answered, with the reason.
        """
        self._console.print(self._answers[name](argument))

    def show(self, notes: Sequence[str], remark: str = "") -> None:
        """Print the cards and the place where one stands.

        Args:
            notes: what is to be said there.
            remark: stands behind the number of the step.
        """
        moment = self.travel.moment
        for card in cards_at(moment, self.travel.timeline.stops, self._row):
            self._console.print(render_card(card))
        frame = self._frames()[0]
        self._console.print(
            render_halt(
                f"Step {moment.position.step}{remark}, before "
                f"{moment.header.number(frame.stop)} {stop_title(frame.stop)}",
                f"{frame.source.file.split('/', 1)[-1]}:{frame.line}" if frame.source else "",
                frame.source.lines_around(frame.line, 2) if frame.source else [],
                frame.line,
                [Note(plain(text), "warning") for text in notes],
            )
        )

    def arguments(self, name: str) -> Iterable[str]:
        """What may follow a command here, to complete it.

        Args:
            name: the command.
        """
        if name in ("u", "b", "rc"):
            return condition_names(None)
        if name == "p":
            names = local_variables(self.travel.moment, self._frames()[0].kind)
            return sorted((*names, *condition_names(None)))
        return _ARGUMENTS[name](None) if name in _ARGUMENTS else ()

    def _frames(self) -> tuple[Frame, ...]:
        moment = self.travel.moment
        return frames_at(moment.position, moment.header, self._sources)


_ARGUMENTS: Mapping[str, Callable[[object], Iterable[str]]] = {
    "whatif": whatif_settings,
    "diff": trace_files,
    "fork": fork_settings,
}
"""What the argument of a command may be wherever one stands, by the command's name."""


def break_notes(halt: Standstill) -> list[str]:
    """The conditions at which a journey halted, in words.

    Args:
        halt: why it halts.
    """
    return [f"break: {text}" for text in halt.text.splitlines()]


def _step_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UsageError(f"{text[:40]!r} is no number of a step; g 12 goes to step 12.")
    return int(text)
