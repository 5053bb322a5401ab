"""The smallest change of one setting that would have kept a token, or made it the greedy choice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracer.analysis.processors.filters import Typical
from tracer.analysis.processors.processor import Opaque, ScoreRow, final_row
from tracer.analysis.processors.settings import KNOBS, Settings, change_processors
from tracer.analysis.processors.softmax import softmax
from tracer.analysis.why.report import Change, Goal
from tracer.analysis.why.stages import RowStages


@dataclass(frozen=True)
class _Grid:
    """The values of a setting that are tried.

    Attributes:
        unit: distance of adjacent values.
        low: smallest value in units.
        high: largest value in units.
        directions: the signs of a change that may reach a goal.
    """

    unit: float
    low: int
    high: int
    directions: tuple[int, ...]

    def value(self, index: int) -> float:
        """The value of an index."""
        return round(index * self.unit, 6)


_GRIDS = {
    "top_k": _Grid(1, 1, 1 << 24, (1,)),
    "top_p": _Grid(1e-4, 0, 10_000, (1,)),
    "temperature": _Grid(1e-3, 1, 100_000, (1, -1)),
    "min_p": _Grid(1e-5, 0, 100_000, (-1,)),
    "repetition_penalty": _Grid(1e-3, 1, 10_000, (1, -1)),
}
_ONLY_REMOVES = ("top_k", "top_p", "min_p")
"""Settings that remove tokens and leave the scores of the others alone."""

_GROWTH = 1.4


def find_changes(known: RowStages, token: int, *, do_sample: bool) -> tuple[Change, ...]:
    """Per goal that is not reached, and per setting, the nearest value that reaches it.

    Values are tried at growing distance from the one in force, then bisected down to a value whose neighbour
    fails; each try runs all processors. ``top_k``, ``top_p`` and ``min_p`` help in one direction only; for
    the others the nearer value of both directions is returned.

    Args:
        known: the row's scores, the token's among them.
        token: the token.
        do_sample: whether the run drew its tokens.
    """
    search = _Search(known, token, do_sample)
    changes: list[Change] = []
    for goal in ("kept", "greedy"):
        if not search.reaches(goal, Settings()):
            changes += [search.change(goal, setting) for setting in _GRIDS]
    return tuple(changes)


class _Search:
    def __init__(self, known: RowStages, token: int, do_sample: bool) -> None:
        self._token = token
        self._do_sample = do_sample
        self._context = known.context
        self._fixed = known.placed[: known.start]
        self._row = known.rows[known.start]
        self._placed = tuple(
            each for each in known.placed[known.start :] if not isinstance(each.processor, Opaque)
        )

    def final(self, settings: Settings) -> ScoreRow:
        placed, _ = change_processors(self._placed, settings, do_sample=self._do_sample)
        return final_row(placed, self._row, self._context)

    def reaches(self, goal: Goal, settings: Settings) -> bool:
        row = self.final(settings)
        score = row.scores[self._token]
        if not score > -np.inf or self._token in row.doubtful:
            return False
        # Of equal scores torch.argmax takes the first.
        return goal == "kept" or (int(row.scores.argmax()) == self._token and float(score) > row.bound)

    def change(self, goal: Goal, setting: str) -> Change:
        now = KNOBS[setting].value((*self._fixed, *self._placed))
        reason = self._obstacle(goal, setting, now)
        if reason:
            return Change(goal, setting, now, None, reason=reason)
        grid = _GRIDS[setting]

        def works(index: int) -> bool:
            return self.reaches(goal, _settings(setting, grid.value(index)))

        found = [
            each
            for direction in grid.directions
            if (each := _nearest(grid, now, direction, works)) is not None
        ]
        if not found:
            return Change(goal, setting, now, None, reason=f"no {setting} reaches it")
        needed = min((grid.value(index) for index in found), key=lambda value: _distance(value, now))
        row = self.final(_settings(setting, needed))
        probability = float(softmax(row.scores)[self._token]) if row.complete else None
        return Change(goal, setting, now, needed, probability, exact=row.exact)

    def _obstacle(self, goal: Goal, setting: str, now: float) -> str:
        """Why no value of a setting can reach the goal; empty if one may."""
        knob = KNOBS[setting]
        if any(isinstance(each.processor, knob.kind) for each in self._fixed):
            return "a processor that cannot be repeated comes after it"
        if knob.role == "warper" and not self._do_sample:
            return "the run was greedy, so there are no warpers"
        if setting in _ONLY_REMOVES and knob.is_off(now):
            return "it is not in use"
        if goal == "greedy" and not self._may_change_the_top(setting):
            return "it does not change which token scores highest"
        return ""

    def _may_change_the_top(self, setting: str) -> bool:
        """Whether a setting can change which token scores highest: by its scores, or by removing the top."""
        removes_top = any(isinstance(each.processor, Typical) for each in self._placed)
        return setting == "repetition_penalty" or removes_top


def _settings(setting: str, value: float) -> Settings:
    arguments: dict[str, Any] = {setting: int(value) if setting == "top_k" else value}
    return Settings(**arguments)


def _distance(value: float, now: float) -> float:
    return abs(math.log(value / now)) if value > 0 and now > 0 else abs(value - now)


def _nearest(grid: _Grid, now: float, direction: int, works: Callable[[int], bool]) -> int | None:
    """Index of the nearest value in one direction that works; None if none does."""
    if not math.isfinite(now):
        return None  # no setting of a run, but a trace may name any
    fails = math.floor(now / grid.unit + 1e-9) if direction > 0 else math.ceil(now / grid.unit - 1e-9)
    for index in _ladder(grid, fails, direction):
        if works(index):
            return _bisect(fails, index, works)
        fails = index
    return None


def _ladder(grid: _Grid, start: int, direction: int) -> Iterator[int]:
    """Indices at growing distance up to the end of the grid."""
    distance, end = 1, grid.high if direction > 0 else grid.low
    while (end - start) * direction > distance:
        yield start + direction * distance
        distance = math.ceil(distance * _GROWTH)
    if start != end and (end - start) * direction > 0:
        yield end


def _bisect(fails: int, succeeds: int, works: Callable[[int], bool]) -> int:
    """Between an index that fails and one that works, an index that works next to one that fails."""
    while abs(succeeds - fails) > 1:
        middle = (fails + succeeds) // 2
        if works(middle):
            succeeds = middle
        else:
            fails = middle
    return succeeds
