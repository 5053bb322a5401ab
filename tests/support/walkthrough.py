"""The walkthrough of the installed release: its stops have the order of its loop."""

from __future__ import annotations

from tracer.halting.stops import default_stops
from tracer.library.release import installed_release
from tracer.schema.run import StopName

LOOP = installed_release().sample

FIRST_FUNCTION = LOOP.statements[0].function or LOOP.method
"""The function that holds its first stop: the loop, or the prefill's own."""

HALTS: tuple[StopName, ...] = tuple(stop for stop in LOOP.stops if stop not in ("run-header", "layers"))
"""Its stops that have a source line."""

WALKTHROUGH = default_stops(LOOP)
"""Where a person halts, in order."""

SCORES: StopName = "warpers" if "warpers" in LOOP.stops else "processors"
"""The stop of the walkthrough before what changes the scores."""

CHOSEN: StopName = LOOP.stops[LOOP.stops.index("append") + 1]
"""The first stop at which the choice is known."""

ONLY_SAMPLING = frozenset({"warpers", "softmax"})
"""Stops that a greedy run does not come to."""


def passed(first: StopName, then: StopName) -> bool:
    """Whether a step comes to the first before it comes to the other."""
    return LOOP.stops.index(first) < LOOP.stops.index(then)
