"""The plan of a halted run: at which stops, in which steps, and where which conditions hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tracer.analysis.conditions.condition import Condition, parse_condition
from tracer.errors import UsageError
from tracer.library.loop import Loop
from tracer.library.release import installed_release
from tracer.nearest_word import suggestion
from tracer.schema.run import ALL_STOPS, StopName

_NO_HALTS = ("run-header", "candidates", "layers")
"""Stops without a line of their own, or before the step has begun."""

HALTS: tuple[StopName, ...] = tuple(stop for stop in ALL_STOPS if stop not in _NO_HALTS)
"""The stops of all loops that have a source line to halt at, in order."""

DEFAULT_STOPS: tuple[StopName, ...] = ("model-call", "forward-result", "warpers", "choice", "update")
"""Where a person who steps through ``generate()`` by hand halts."""


def default_stops(loop: Loop) -> tuple[StopName, ...]:
    """Where a person halts in a loop: before the warpers, or all processors where they are one list.

    Args:
        loop: the loop.
    """
    wanted = {stop if stop in loop.stops else "processors" for stop in DEFAULT_STOPS}
    return tuple(stop for stop in loop.stops if stop in wanted)


@dataclass(frozen=True)
class StepNumbers:
    """A set of step numbers.

    Attributes:
        ranges: first and last step of each range, from 1; None as the last means no end.
    """

    ranges: tuple[tuple[int, int | None], ...]

    def __contains__(self, step: int) -> bool:
        return any(first <= step and (last is None or step <= last) for first, last in self.ranges)

    def after(self, step: int) -> bool:
        """Whether there is any number beyond this one."""
        return bool(self.beyond(step).ranges)

    def in_vain(self, last: int) -> bool:
        """Whether a part of them lies wholly beyond the last step that there is.

        Args:
            last: number of that step.
        """
        return any(first > last for first, _ in self.ranges) and self != ALL_STEPS

    def beyond(self, step: int) -> StepNumbers:
        """The numbers above a number.

        Args:
            step: the number.
        """
        return StepNumbers(
            tuple((max(first, step + 1), last) for first, last in self.ranges if last is None or last > step)
        )


ALL_STEPS = StepNumbers(((1, None),))
NO_STEPS = StepNumbers(())
DEFAULT_STEPS = StepNumbers(((1, 2),))
"""The prefill and the first decode step; every later one looks like the second."""


class Passes:
    """Which places of a step were passed already.

    A statement over several lines begins its first line twice, and a processor may run the model too.
    """

    def __init__(self) -> None:
        self.step = 0
        self._places: set[str] = set()

    def first(self, place: str, step: int) -> bool:
        """Whether a place is passed for the first time in a step.

        Args:
            place: name of a stop, or of any other place.
            step: number of the step.
        """
        if self.step != step:
            self.step, self._places = step, set()
        first = place not in self._places
        self._places.add(place)
        return first


@dataclass(frozen=True)
class StopPlan:
    """Where a run shall halt.

    Attributes:
        stops: names of the stops, in the order in which they happen.
        steps: the steps in which they are meant.
        breaks: conditions; the run also halts at the end of a step in which one of them holds.
    """

    stops: tuple[StopName, ...] = DEFAULT_STOPS
    steps: StepNumbers = DEFAULT_STEPS
    breaks: tuple[Condition, ...] = ()

    def halts(self, stop: StopName, step: int) -> bool:
        """Whether the run halts at a stop of a step.

        Args:
            stop: the stop.
            step: number of the step, from 1.
        """
        return stop in self.stops and step in self.steps

    def from_step(self, first: int) -> StopPlan:
        """The plan in a fork: the steps that are given to it are passed by, and its own first one is meant.

        Args:
            first: number of that step; 1 for a run that is no fork.
        """
        if first == 1:
            return self
        return replace(self, steps=StepNumbers(((first, first), *self.steps.beyond(first).ranges)))


def plan_stops(
    stops: str | Iterable[str] | None = None,
    steps: str | Iterable[int] | None = None,
    breaks: str | Iterable[str] = (),
    *,
    default_steps: StepNumbers = DEFAULT_STEPS,
) -> StopPlan:
    """A plan from what a user wrote.

    Args:
        stops: names of stops, separated by commas or one by one; ``all``; None for the default.
        steps: step numbers as :func:`parse_steps` reads them, or the numbers; None for the default.
        breaks: conditions (:mod:`tracer.analysis.conditions.condition`).
        default_steps: what None means for ``steps``.

    Raises:
        UsageError: naming the stops that are known, or what is wrong with a number or condition.
    """
    if steps is None:
        wanted = default_steps
    elif isinstance(steps, str):
        wanted = parse_steps(steps)
    else:
        wanted = StepNumbers(tuple((number, number) for number in steps))
    texts = [breaks] if isinstance(breaks, str) else breaks
    loops = installed_release().loops
    return StopPlan(
        default_stops(loops[0]) if stops is None else _stops_of(loops, stops),
        wanted,
        tuple(parse_condition(text) for text in texts),
    )


def _known_stops(loops: Iterable[Loop]) -> tuple[StopName, ...]:
    """The stops with a source line that any of some loops has."""
    there = {stop for loop in loops for stop in loop.stops}
    return tuple(stop for stop in HALTS if stop in there)


def _stops_of(loops: Iterable[Loop], names: str | Iterable[str]) -> tuple[StopName, ...]:
    stops, known = parse_stops(names), _known_stops(loops)
    missing = [stop for stop in stops if stop not in known]
    if missing and stops != HALTS:
        raise UsageError(
            f"Stop {missing[0]!r}: no loop that is traced with the installed transformers has such a place; "
            f"they have {', '.join(known)}."
        )
    return tuple(stop for stop in stops if stop in known)


def parse_stops(names: str | Iterable[str]) -> tuple[StopName, ...]:
    """Names of stops, in the order in which they happen.

    Args:
        names: separated by commas, or one by one; ``all`` stands for every stop that has a source line.

    Raises:
        UsageError: for a name that is not known, naming those that are.
    """
    parts = [part.strip().lower() for part in (names.split(",") if isinstance(names, str) else names)]
    wanted = set(parts)
    if wanted == {"all"}:
        return HALTS
    for name in parts:
        if name not in HALTS:
            near = suggestion(name, HALTS)
            raise UsageError(
                f"Stop {name!r}: no such place to halt; known are {', '.join(HALTS)}, or all.{near}"
            )
    return tuple(stop for stop in HALTS if stop in wanted)


def parse_steps(text: str) -> StepNumbers:
    """Step numbers: ``1,2``, ``3-7``, ``all`` or ``none``.

    Args:
        text: the numbers.

    Raises:
        UsageError: if the text reads otherwise.
    """
    text = text.strip().lower()
    if text in ("all", "none"):
        return ALL_STEPS if text == "all" else NO_STEPS
    ranges = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()) or int(low) < 1:
            raise UsageError(f"{text!r}: expected step numbers as in 1,2 or 3-7, or all, or none.")
        last = int(high) if dash else int(low)
        if last < int(low):
            raise UsageError(f"{part.strip()!r}: the range ends before it starts.")
        ranges.append((int(low), last))
    return StepNumbers(tuple(ranges))
