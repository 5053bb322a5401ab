"""Look back from where a run in progress stands, with the commands and cards of a recording."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rich.console import Console

from reports.terminal.halt import render_text
from tracer.analysis.conditions.condition import Condition, parse_condition
from tracer.errors import UsageError
from tracer.halting.run_in_progress import run_in_progress
from tracer.replay.terminal.journey import Journey, break_notes
from tracer.replay.timeline import Position
from tracer.replay.travel import Standstill, Travel
from tracer.schema.run import StopName

if TYPE_CHECKING:
    from tracer.halting.callback import Halt

_BACK = ("b", "sb", "rc", "g")

_THERE = ("n", "s", "c", "u", "p", "l", "w", "kv", "top", "why", "whatif", "diff")
"""Commands that an earlier stop answers by itself."""

_CHANGES = {"force": "fork token=TOKEN", "ban": "fork ban=TOKEN", "set": "fork NAME=VALUE"}
"""Commands that change the run, and what does so from an earlier stop on."""

_BEGINNING = "The run begins with step 1."


class PastOfRun:
    """The earlier stops of a run that stands still, read from its trace and from the step in progress.

    Args:
        halt: where the run stands.
        stops: the stops that are shown.
        console: where everything is printed.
    """

    def __init__(self, halt: Halt, stops: tuple[StopName, ...], console: Console) -> None:
        self._halt = halt
        self._stops = stops
        self._console = console
        self._open = ExitStack()
        self._journey: Journey | None = None
        self._away = False

    @property
    def away(self) -> bool:
        """Whether the user looks at an earlier stop."""
        return self._away

    @property
    def step(self) -> int:
        """Number of the step that the user looks at."""
        return self._journey.travel.position.step if self._away and self._journey else self._halt.step

    @property
    def prompt(self) -> str:
        """The prompt while the user looks at an earlier stop."""
        assert self._journey is not None
        position = self._journey.travel.position
        return f"({position.stop} {position.step}/{self._halt.step} past) "

    def takes(self, name: str, argument: str) -> bool:
        """Whether a command goes back, or is asked at an earlier stop."""
        if name == "b" and argument:  # a condition for the run
            return False
        return name in _BACK or (self._away and (name in _THERE or name in _CHANGES))

    def execute(self, name: str, argument: str, breaks: Iterable[Condition]) -> bool:
        """Execute a command that goes back, or is asked at an earlier stop."""
        if name in _CHANGES:
            raise UsageError(
                f"{name} changes the run, and this is its past: {_CHANGES[name]} goes on from here another "
                "way, c leads back to the present."
            )
        journey = self._journey or self._opened()
        if not journey.moves(name):
            journey.answer(name, argument)
            return False
        return self._move(journey, name, argument, breaks)

    def arguments(self, name: str) -> Iterable[str]:
        """What may follow a command at an earlier stop."""
        return () if self._journey is None else self._journey.arguments(name)

    def close(self) -> None:
        """The run goes on."""
        self._open.close()

    def _opened(self) -> Journey:
        halt = self._halt
        run = self._open.enter_context(run_in_progress(halt.live, halt.live.present(halt.local)))
        travel = Travel(run, self._stops, self._standing)
        if self._standing is None:
            travel.position = travel.timeline.last
        self._journey = Journey(travel, self._console)
        return self._journey

    @property
    def _standing(self) -> Position | None:
        """Where the run stands; None behind the last stop of a step."""
        halt = self._halt
        return None if halt.stop is None else Position(halt.step, halt.stop)

    def _move(self, journey: Journey, name: str, argument: str, breaks: Iterable[Condition]) -> bool:
        breaks = tuple(breaks)
        self._learn(name, argument, breaks)
        before, was_away = journey.travel.position, self._away
        halt = self._moved(journey, name, argument, breaks)
        at_beginning = halt.reason == "beginning"
        if not (at_beginning and journey.travel.position == before):
            self._away = not self._is_present(journey, halt)
        if self._away:
            notes = [_BEGINNING] if at_beginning else break_notes(halt)
            journey.show(notes, f"/{self._halt.step} (past)")
        elif at_beginning:
            self._console.print(render_text([_BEGINNING]))
        return was_away and not self._away

    def _moved(self, journey: Journey, name: str, argument: str, breaks: tuple[Condition, ...]) -> Standstill:
        if name == "g":
            self._check_step(argument)
        if name == "b" and not self._away and self._standing is None:
            return journey.travel.go(journey.travel.position)
        return journey.move(name, argument, breaks)

    def _is_present(self, journey: Journey, halt: Standstill) -> bool:
        """Whether a move has led to where the run stands; the journey is there then."""
        present = self._standing or journey.travel.timeline.last
        if halt.reason == "end":
            journey.travel.position = present
        return halt.reason == "end" or journey.travel.position == self._standing

    def _check_step(self, argument: str) -> None:
        if argument.isascii() and argument.isdigit() and int(argument[:10]) > self._halt.step:
            raise UsageError(
                f"step {argument[:10]} has not come yet: the run stands in step {self._halt.step}."
            )

    def _learn(self, name: str, argument: str, breaks: tuple[Condition, ...]) -> None:
        """Let the conditions find tokens that nothing has mentioned."""
        once = (parse_condition(argument),) if argument and name in ("u", "rc") else ()
        self._halt.live.look_up(text for each in (*breaks, *once) for text in each.texts)
