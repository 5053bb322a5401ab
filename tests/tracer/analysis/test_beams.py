"""The length penalties at which another hypothesis would win, against trying them out."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tracer.analysis.beams import kept, margin, turns
from tracer.schema.beams import BeamOutcome, Hypothesis

PENALTIES = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])
SEQUENCES = st.lists(
    st.tuples(st.integers(-4000, -1).map(lambda total: total / 100), st.integers(1, 12)),
    min_size=1,
    max_size=5,
)


def outcome(sequences: list[tuple[float, int]], penalty: float) -> BeamOutcome:
    hypotheses = tuple(
        Hypothesis(
            number=number,
            step=length,
            row=0,
            token=9,
            total=total,
            length=length,
            value=total / length**penalty,
        )
        for number, (total, length) in enumerate(sequences)
    )
    best = sorted(hypotheses, key=lambda each: each.value, reverse=True)
    numbers = tuple(each.number for each in hypotheses)
    return BeamOutcome(hypotheses=hypotheses, kept=numbers, returned=(best[0].number,))


def worth(hypothesis: Hypothesis, penalty: float) -> float:
    """The logarithm of minus its value, which is less the better it is, and does not overflow."""
    return math.log(-hypothesis.total) - penalty * math.log(hypothesis.length)


def winner(found: BeamOutcome, penalty: float) -> int:
    return min(kept(found), key=lambda each: worth(each, penalty)).number


def clear(found: BeamOutcome, penalty: float) -> bool:
    """Whether the best one is not tied with another at a penalty."""
    values = sorted(worth(each, penalty) for each in kept(found))
    return len(values) < 2 or values[1] - values[0] > 1e-9


@given(SEQUENCES, PENALTIES)
def test_at_a_turn_another_hypothesis_becomes_the_best(
    sequences: list[tuple[float, int]], penalty: float
) -> None:
    found = outcome(sequences, penalty)
    assume(clear(found, penalty))
    best = winner(found, penalty)
    for turn in turns(found, penalty):
        away = 1 if turn.above else -1
        assert (turn.penalty > penalty) == turn.above
        near, beyond = turn.penalty - away * 1e-6, turn.penalty + away * 1e-6
        assume(clear(found, near) and clear(found, beyond) and abs(turn.penalty - penalty) > 1e-5)
        assert winner(found, near) == best
        assert winner(found, beyond) == turn.winner != best


@given(SEQUENCES, PENALTIES, st.floats(-8, 8))
def test_between_the_turns_the_best_stays_the_best(
    sequences: list[tuple[float, int]], penalty: float, other: float
) -> None:
    found = outcome(sequences, penalty)
    assume(clear(found, penalty) and clear(found, other))
    low, high = -math.inf, math.inf
    for turn in turns(found, penalty):
        low, high = (low, turn.penalty) if turn.above else (turn.penalty, high)
    if low < other < high:
        assert winner(found, other) == winner(found, penalty)


def test_the_margin_is_that_to_the_second() -> None:
    assert margin(outcome([(-2.0, 2), (-6.0, 3), (-9.0, 3)], 1.0)) == pytest.approx(1.0)
    assert margin(outcome([(-2.0, 2)], 1.0)) is None
    assert turns(BeamOutcome(hypotheses=(), kept=(), returned=()), 1.0) == ()
