"""Compare ways of doing the same work, which take turns in one process.

Whole runs scatter by a tenth on a machine that others use too. What disturbs it lasts longer than a turn, so
that ways whose turns follow one another share it, and the ratio of two such turns does not show it. In each
round every way has one turn, in an order drawn anew. A way that is compared with itself comes out as 1 within
its interval.

What is put off during a turn, such as writing a file, is done after some rounds, when nobody has a turn, and
is shared out over the turns before.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

_CONFIDENCE = 0.95
_FEWEST = 6
"""Fewer pairs than this have no interval of 95 %: all of them are above the median once in 32 times."""


_SETTLE_AFTER = 1.0
"""Seconds of one way's own turns after which what was put off is done: the recorder writes as often."""

_MOST_TOGETHER = 32


@dataclass(frozen=True)
class Lane:
    """One way of doing the work.

    Attributes:
        turn: does a part of the work, the same one in all ways.
        settle: does what was put off.
    """

    turn: Callable[[], None]
    settle: Callable[[], None]


@dataclass(frozen=True)
class Estimate:
    """The median of paired ratios.

    Attributes:
        median: of the pairs.
        low: lower end of its interval of 95 %.
        high: upper end.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Comparison:
    """One way compared with the reference.

    Attributes:
        what: what was compared.
        wall: its time over that of the reference.
        cpu: its processor time over that of the reference, of all threads of the process.
        milliseconds: median time of a turn of the reference.
        cpu_milliseconds: the same of its processor time.
        rounds: how many.
    """

    what: str
    wall: Estimate
    cpu: Estimate
    milliseconds: float
    cpu_milliseconds: float
    rounds: int

    def __str__(self) -> str:
        reference = f"{self.milliseconds:.1f} ms and {self.cpu_milliseconds:.1f} ms, {self.rounds} rounds"
        return f"{self.wall}  processor {self.cpu}  {self.what}; {reference}"


@dataclass(frozen=True)
class _Spent:
    wall: float
    cpu: float

    def share(self, settled: _Spent, turns: int) -> _Spent:
        """With a share of what was done for several turns."""
        return _Spent(self.wall + settled.wall / turns, self.cpu + settled.cpu / turns)


def compare(reference: Lane, ways: Mapping[str, Lane], *, seconds: float) -> list[Comparison]:
    """Let all take turns.

    Args:
        reference: what the others are compared with.
        ways: the others, by what they are.
        seconds: time for all rounds together, without two before them that do not count.
    """
    lanes = [reference, *ways.values()]
    order = random.Random(0)
    _rounds(lanes, 1, order)
    taken = _rounds(lanes, 1, order)[0][0].wall
    together = min(max(round(_SETTLE_AFTER / taken), 1), _MOST_TOGETHER)
    spent: list[list[_Spent]] = [[] for _ in lanes]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(spent[0]) < _FEWEST:
        for all_of_lane, found in zip(spent, _rounds(lanes, together, order), strict=True):
            all_of_lane += found
    of_reference, *of_others = spent
    return [_comparison(what, of_reference, of) for what, of in zip(ways, of_others, strict=True)]


def _rounds(lanes: Sequence[Lane], count: int, order: random.Random) -> list[list[_Spent]]:
    """What each turn of each lane took, with its share of what was put off."""
    spent: list[list[_Spent]] = [[] for _ in lanes]
    for _ in range(count):
        for number in order.sample(range(len(lanes)), len(lanes)):
            spent[number].append(_timed(lanes[number].turn))
    for lane, turns in zip(lanes, spent, strict=True):
        settled = _timed(lane.settle)
        turns[:] = [turn.share(settled, count) for turn in turns]
    return spent


def _timed(work: Callable[[], None]) -> _Spent:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return _Spent(time.perf_counter() - wall, time.process_time() - cpu)


def _comparison(what: str, reference: Sequence[_Spent], others: Sequence[_Spent]) -> Comparison:
    pairs = [*zip(others, reference, strict=True)]
    return Comparison(
        what=what,
        wall=estimate([other.wall / one.wall for other, one in pairs]),
        cpu=estimate([other.cpu / one.cpu for other, one in pairs]),
        milliseconds=median(each.wall for each in reference) * 1e3,
        cpu_milliseconds=median(each.cpu for each in reference) * 1e3,
        rounds=len(pairs),
    )


def estimate(values: Sequence[float]) -> Estimate:
    """The median, and the interval between two order statistics that holds it whatever the distribution is.

    Args:
        values: independent of one another, six at least.

    Raises:
        ValueError: there are fewer.
    """
    count = len(values)
    if count < _FEWEST:
        raise ValueError(f"{count} pairs have no interval of 95 %")
    # How many of the values are below the median is binomial.
    outside, below = 0, 0
    while 2 * (outside + comb(count, below)) <= (1 - _CONFIDENCE) * 2**count:
        outside += comb(count, below)
        below += 1
    found = sorted(values)
    return Estimate(median(found), found[below - 1], found[count - below])
