"""The end of a beam search: which hypothesis won, by how much, and at which length penalty another would."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tracer.schema.arrays import I64
from tracer.schema.beams import BeamOutcome, Hypothesis
from tracer.schema.columns import NO_TOKEN
from tracer.schema.step import Step


@dataclass(frozen=True)
class Turn:
    """A length penalty from which on another hypothesis is the best of those kept.

    Attributes:
        penalty: the exponent at which both are worth the same.
        above: whether it wins above the exponent; else below.
        winner: number of the hypothesis that wins there.
    """

    penalty: float
    above: bool
    winner: int


def margin(outcome: BeamOutcome) -> float | None:
    """By how much the best hypothesis is worth more than the second; None where there is no second.

    Args:
        outcome: what a row has in the end.
    """
    values = sorted((each.value for each in kept(outcome)), reverse=True)
    return values[0] - values[1] if len(values) > 1 else None


def taken_before(step: Step, row: int) -> I64 | None:
    """The tokens that earlier groups of the same row of the batch go on with, for each of their beams one.

    Args:
        step: a step of a group search.
        row: the row of a later group.

    Returns:
        None where they are not known, and for other searches.
    """
    beams, scores = step.head.beams, step.scores
    if beams is None or scores is None or beams.groups < 2:
        return None
    first = row // beams.beams * beams.beams
    found: I64 = scores.chosen[first - beams.place(row)[1] * beams.beams : first].astype(np.int64)
    return None if (found == NO_TOKEN).any() else found


def kept(outcome: BeamOutcome) -> tuple[Hypothesis, ...]:
    """The hypotheses that were kept to the end.

    Args:
        outcome: what a row has in the end.
    """
    return tuple(outcome.hypotheses[number] for number in outcome.kept)


def turns(outcome: BeamOutcome, penalty: float) -> tuple[Turn, ...]:
    """The nearest length penalties below and above at which another of the kept hypotheses would win.

    With sums ``s`` below 0 and lengths ``l``, ``s1 / l1**p = s2 / l2**p`` at
    ``p = log(s1 / s2) / log(l1 / l2)``. Another penalty could also have kept others.

    Args:
        outcome: what a row has in the end.
        penalty: the exponent of the run.
    """
    hypotheses = kept(outcome)
    if not hypotheses:
        return ()
    best = max(hypotheses, key=lambda each: each.value)
    found = [*_crossings(best, hypotheses)]
    below = _nearest([each for each in found if each[0] < penalty], above=False)
    above = _nearest([each for each in found if each[0] > penalty], above=True)
    return (*below, *above)


def _nearest(found: Sequence[tuple[float, Hypothesis]], *, above: bool) -> tuple[Turn, ...]:
    """The nearest of some crossings; of several in one place, that of the one that wins beyond it."""
    if not found:
        return ()
    nearest = (min if above else max)(at for at, _ in found)
    tied = [other for at, other in found if math.isclose(at, nearest, rel_tol=_SAME, abs_tol=_SAME)]
    winner = (max if above else min)(tied, key=lambda each: each.length)
    return (Turn(nearest, above, winner.number),)


_SAME = 1e-9
"""Difference of two penalties that only rounding makes."""


def _crossings(best: Hypothesis, hypotheses: Sequence[Hypothesis]) -> Iterator[tuple[float, Hypothesis]]:
    for other in hypotheses:
        comparable = other.length != best.length and min(best.length, other.length) > 0
        if comparable and best.total < 0 and other.total < 0:
            crossing = math.log(best.total / other.total) / math.log(best.length / other.length)
            yield crossing + 0.0, other  # never -0.0
