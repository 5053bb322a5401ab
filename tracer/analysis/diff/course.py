"""Two compared runs side by side, step by step: tokens, their probabilities, distance of the logits."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from tracer.analysis.diff.report import DiffReport, LogitDistance, RowPair
from tracer.analysis.diff.scores import recorded_gap
from tracer.analysis.runs import RecordedRun
from tracer.schema.columns import ScoreColumns
from tracer.schema.step import Step

_Sides = tuple[Step | None, Step | None]
"""A step of run A and the same step of run B; None where a run lacks it."""


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
        over_all: whether ``largest`` covers the whole vocabulary; else the tokens that both recorded.
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
    """The course of each pair of rows in a comparison.

    Args:
        a: run A.
        b: run B.
        report: their comparison.
    """
    parted = {each.rows: each.step for each in report.tokens}
    distances = {(each.rows, each.step): each for each in report.logits}
    steps: dict[RowPair, list[CourseStep]] = {pair: [] for pair in report.rows}
    for number, both in _aligned(a.steps, b.steps):
        for pair in report.rows:
            shared = pair.same_prompt and number <= parted.get(pair, number)
            steps[pair].append(_step(number, both, pair, shared, distances.get((pair, number))))
    return tuple(Course(pair, parted.get(pair), tuple(found)) for pair, found in steps.items())


def _aligned(a: Sequence[Step], b: Sequence[Step]) -> Iterator[tuple[int, _Sides]]:
    """The steps of both runs by number, which rises in each; one step a run is in memory at a time."""
    merged = heapq.merge(_numbered(a, 0), _numbered(b, 1), key=itemgetter(0))
    for number, group in itertools.groupby(merged, key=itemgetter(0)):
        found = {side: step for _, side, step in group}
        yield number, (found.get(0), found.get(1))


def _numbered(steps: Iterable[Step], side: int) -> Iterator[tuple[int, int, Step]]:
    return ((step.number, side, step) for step in steps)


def _step(
    number: int, both: _Sides, pair: RowPair, shared: bool, distance: LogitDistance | None
) -> CourseStep:
    scores = [_scores_of_unfinished(step, row) for step, row in zip(both, (pair.a, pair.b), strict=True)]
    compared = shared and None not in scores
    if distance is not None:
        largest: float | None = distance.largest
    else:
        largest = _recorded_gap(both, pair) if compared else None
    return CourseStep(
        number=number,
        a=_token(scores[0], pair.a, scores[1] if compared else None, pair.b),
        b=_token(scores[1], pair.b, scores[0] if compared else None, pair.a),
        shared=compared,
        divergence=None if distance is None else distance.divergence,
        largest=largest,
        over_all=distance is not None,
    )


def _recorded_gap(both: _Sides, pair: RowPair) -> float | None:
    left, right = both
    return None if left is None or right is None else recorded_gap(left, right, pair)


def _scores_of_unfinished(step: Step | None, row: int) -> ScoreColumns | None:
    """The scores of a step; None where the row had ended before it."""
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
    # Where the list holds every candidate, all other tokens had been removed.
    listed = int(np.count_nonzero(columns.probabilities[row] > 0))
    return 0.0 if listed == columns.candidates[row] else None
