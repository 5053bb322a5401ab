"""What a beam search decided in a step, with figures that the thread that writes fills in."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hooks.caught_step import CaughtStep, LoopRecord
from tracer.schema.beams import BeamStep, Continuation
from tracer.schema.checks import Check, Violation


def on_places(continuations: Sequence[Continuation], stage: torch.Tensor) -> torch.Tensor:
    """A figure of each continuation.

    Args:
        continuations: the continuations.
        stage: ``[rows, vocab]`` figures of all tokens.
    """
    places = torch.tensor([[each.parent for each in continuations], [each.token for each in continuations]])
    rows, tokens = places.long().to(stage.device)
    return stage[rows, tokens]


@dataclass(frozen=True)
class CaughtBeams:
    """What the scorer decided in a step.

    Attributes:
        record: the record of it.
        tokens: the token of each row after the step.
        as_expected: for each row of the record, whether the rules lead to the same.
    """

    record: BeamStep
    tokens: tuple[int, ...]
    as_expected: tuple[bool, ...]

    @property
    def continuations(self) -> tuple[Continuation, ...]:
        """All continuations, in the order of the record."""
        return tuple(each for row in self.record.rows for each in row.continuations)

    @property
    def done(self) -> tuple[bool, ...]:
        """Of each row after the step, whether its search is over."""
        return tuple(row.done for row in self.record.rows for _ in range(self.record.beams))

    def figures(self, stages: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Figures of each continuation, in the order of the record; they stay where the scores are.

        Args:
            stages: ``[rows, vocab]`` scores of each stage.
        """
        return {"log_probabilities": on_places(self.continuations, stages[-1])}

    def completed(
        self, figures: Mapping[str, Sequence[float]], each: Continuation, place: int
    ) -> dict[str, Any]:
        """What a continuation is still to be told.

        Args:
            figures: see :meth:`figures`.
            each: the continuation.
            place: its place among all.
        """
        return {"log_probability": figures["log_probabilities"][place]}

    def _completed(self, figures: Mapping[str, Sequence[float]]) -> BeamStep:
        """The record with these figures of each continuation."""
        places = itertools.count()
        return self.record.model_copy(
            update={
                "rows": tuple(
                    row.model_copy(
                        update={
                            "continuations": tuple(
                                each.model_copy(update=self.completed(figures, each, next(places)))
                                for each in row.continuations
                            )
                        }
                    )
                    for row in self.record.rows
                )
            }
        )

    def fits(self, each: Continuation) -> bool:
        """Whether the figures of a continuation fit together.

        Args:
            each: the continuation, completed.
        """
        return adds_up(each)

    def describe(self, step: CaughtStep) -> LoopRecord:
        """The record, and whether it is what the scorer's rules lead to.

        Args:
            step: the step.
        """
        figures = {name: tensor.tolist() for name, tensor in step.tensors.loop.items()}
        return checked(self._completed(figures) if figures else self.record, self.as_expected, self.fits)


def checked(
    record: BeamStep, as_expected: Sequence[bool], fits: Callable[[Continuation], bool]
) -> LoopRecord:
    """A record with its check.

    Args:
        record: the record of a step.
        as_expected: for each row of the record, whether the rules lead to what was decided.
        fits: whether the figures of a continuation fit together.
    """
    total = len(as_expected) // record.groups
    without = rows_without_order(record)
    if len(without) == total:
        return LoopRecord(beams=record, checks=((Check.not_made("beams", NO_ORDER, total=total), ()),))
    wrong = [
        number
        for number, row in enumerate(record.rows)
        if number // record.groups not in without
        and not (as_expected[number] and all(map(fits, row.continuations)))
    ]
    check = Check.made("beams", holds=not wrong, checked=total - len(without), total=total)
    violations = tuple(
        Violation(
            check="beams",
            message=f"{_place(record, number)}: the beams or hypotheses are not those that the scores "
            "lead to",
            row=number * record.beams,
        )
        for number in wrong
    )
    return LoopRecord(beams=record, checks=((check, violations),))


def rows_without_order(record: BeamStep) -> set[int]:
    """Rows of the batch with scores that are NaN.

    Args:
        record: the record of a step.
    """
    return {number // record.groups for number in range(len(record.rows)) if _without_order(record, number)}


def _without_order(record: BeamStep, number: int) -> bool:
    """Whether a row of the record has scores that are NaN."""
    own = slice(number * record.beams, (number + 1) * record.beams)
    scores = (each.score for each in record.rows[number].continuations)
    return any(map(math.isnan, (*scores, *record.before[own], *record.scores[own])))


def adds_up(each: Continuation) -> bool:
    """Whether a score is that of the beam before and the token's log-probability together.

    Args:
        each: the continuation; one whose log-probability is not known is taken to.
    """
    return (
        each.log_probability is None
        or math.isclose(each.score, each.before + each.log_probability, rel_tol=ROUNDING)
        or math.isnan(each.log_probability)
    )


def _place(record: BeamStep, number: int) -> str:
    """``batch row 1``, with its group where there are several."""
    row, group = divmod(number, record.groups)
    return f"batch row {row}, group {group}" if record.groups > 1 else f"batch row {row}"


NO_ORDER = "scores are NaN, which have no order"
"""Why a check of what they lead to is not made."""

ROUNDING = 1e-6
"""Relative error of a sum of two numbers of single precision, some roundings over."""
