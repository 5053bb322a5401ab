"""Two compared runs beside one another, step by step: tokens, their probabilities, distance of the logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tracer.analysis.diff.report import DiffReport, LogitDistance, RowPair
from tracer.analysis.diff.scores import recorded_gap
from tracer.analysis.runs import RecordedRun
from tracer.schema.step import ScoreColumns, Step

Aligned = tuple[Step | None, Step | None]


@dataclass(frozen=True)
class CourseToken:
    """What one run chose in one step.

    Attributes:
        token: its id.
        probability: its probability in this run.
        elsewhere: its probability in the other run, given the same text; 0 where a processor removed it,
            None where that was not recorded or the texts before are not the same.
    """

    token: int
    probability: float
    elsewhere: float | None


@dataclass(frozen=True)
class CourseStep:
    """One step of two rows.

    Attributes:
        number: of the step, from 1.
        a: what run A chose; None where its row had ended, or the choice was not recorded.
        b: the same of run B.
        shared: whether both texts were the same before the step, so that the figures compare.
        divergence: Kullback-Leibler divergence of the raw logits in nats; None where not both saved them.
        largest: largest difference of two raw logits; None where none compare.
        over_all: whether ``largest`` is that of the whole vocabulary; else of the tokens that both listed.
    """

    number: int
    a: CourseToken | None
    b: CourseToken | None
    shared: bool
    divergence: float | None
    largest: float | None
    over_all: bool


@dataclass(frozen=True)
class Course:
    """Two rows from the first step to the last of the longer run.

    Attributes:
        rows: which rows.
        parted: number of the step whose choice differs; None where there is none.
        steps: the steps in order.
    """

    rows: RowPair
    parted: int | None
    steps: tuple[CourseStep, ...]


def courses(a: RecordedRun, b: RecordedRun, report: DiffReport) -> tuple[Course, ...]:
    """The course of each pair of rows that a comparison paired.

    Args:
        a: run A.
        b: run B.
        report: their comparison.
    """
    parted = {each.rows: each.step for each in report.tokens}
    distances = {(each.rows, each.step): each for each in report.logits}
    steps: dict[RowPair, list[CourseStep]] = {pair: [] for pair in report.rows}
    for left, right in _aligned(a.steps, b.steps):
        number = next(step.number for step in (left, right) if step is not None)
        for pair in report.rows:
            shared = pair.same_prompt and number <= parted.get(pair, number)
            steps[pair].append(_step(number, (left, right), pair, shared, distances.get((pair, number))))
    return tuple(Course(pair, parted.get(pair), tuple(found)) for pair, found in steps.items())


def _aligned(a: Sequence[Step], b: Sequence[Step]) -> Iterator[Aligned]:
    """The steps of both runs by number; None where a run lacks it."""
    ours, theirs = iter(a), iter(b)
    left, right = next(ours, None), next(theirs, None)
    while left is not None or right is not None:
        number = min(step.number for step in (left, right) if step is not None)
        ready_a = left if left is not None and left.number == number else None
        ready_b = right if right is not None and right.number == number else None
        yield ready_a, ready_b
        left = next(ours, None) if ready_a is not None else left
        right = next(theirs, None) if ready_b is not None else right


def _step(
    number: int, both: Aligned, pair: RowPair, shared: bool, distance: LogitDistance | None
) -> CourseStep:
    scores = [_going_on(step, row) for step, row in zip(both, (pair.a, pair.b), strict=True)]
    compared = shared and None not in scores
    largest = None if distance is None else distance.largest
    if largest is None and compared and both[0] is not None and both[1] is not None:
        largest = recorded_gap(both[0], both[1], pair)
    return CourseStep(
        number=number,
        a=_token(scores[0], pair.a, scores[1] if compared else None, pair.b),
        b=_token(scores[1], pair.b, scores[0] if compared else None, pair.a),
        shared=compared,
        divergence=None if distance is None else distance.divergence,
        largest=largest,
        over_all=distance is not None,
    )


def _going_on(step: Step | None, row: int) -> ScoreColumns | None:
    """The scores of a row that has not ended before the step."""
    scores = None if step is None else step.scores
    return None if scores is None or scores.finished[row] else scores


def _token(
    own: ScoreColumns | None, row: int, other: ScoreColumns | None, other_row: int
) -> CourseToken | None:
    if own is None:
        return None
    token = int(own.chosen[row])
    elsewhere = None if other is None else _probability(other, other_row, token)
    return CourseToken(token, float(own.chosen_probability[row]), elsewhere)


def _probability(columns: ScoreColumns, row: int, token: int) -> float | None:
    """A token's probability; None where that was not recorded."""
    places = np.flatnonzero(columns.tokens[row] == token)
    if places.size:
        return float(columns.probabilities[row, places[0]])
    # Of the candidates none is missing in the list: all other tokens had been removed.
    listed = int(np.count_nonzero(columns.probabilities[row] > 0))
    return 0.0 if listed == columns.candidates[row] else None
