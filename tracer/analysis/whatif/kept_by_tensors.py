"""What a beam search without a scorer would have kept of recorded continuations under other settings.

Hypotheses are in tensors of single precision there. A row that is done goes on until all are, and keeps
nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tracer.analysis.hypotheses import Rules
from tracer.errors import UnsupportedError
from tracer.schema.beams import BeamOutcome, BeamRow, BeamStep, Hypothesis
from tracer.schema.step import Step


class KeptByTensors:
    """The hypotheses of all rows of the batch while their steps are worked out again.

    Args:
        rules: the settings of the search; its ``max_length`` is without the prompt.
        steps: the recorded steps.
        returned: how many hypotheses of each row are returned.

    Attributes:
        last: the step in which the search is over; None where it would go on behind the recorded ones.
        parts: for each row the last step that is recorded of it, where it would go on; else None.
    """

    def __init__(self, rules: Rules, steps: Sequence[Step], returned: int) -> None:
        self._rules = rules
        self._returned = returned
        self._rows = [_Row() for _ in _beams(steps[0]).rows]
        self.last = self._work_out(steps)
        over = self.last is not None
        self.parts = tuple(None if over or row.done else steps[-1].number for row in self._rows)

    @property
    def rows(self) -> tuple[BeamOutcome | None, ...]:
        """What each row of the batch has in the end; None where that is not known."""
        return tuple(
            None if part is not None else row.outcome(self._returned)
            for row, part in zip(self._rows, self.parts, strict=True)
        )

    def _work_out(self, steps: Sequence[Step]) -> int | None:
        for step in steps:
            beams = _beams(step)
            for place, (row, found) in enumerate(zip(self._rows, beams.rows, strict=True)):
                if not row.done:
                    row.step(self._rules, found, step.number, beams.scores[place * self._rules.beams])
            if all(row.done for row in self._rows) or _all_ended(beams):
                return step.number
        return None


class _Row:
    """The hypotheses of a row of the batch.

    Attributes:
        all: every one that was ever kept.
        kept: those that are.
        done: whether it takes no further one.
    """

    def __init__(self) -> None:
        self.all: list[Hypothesis] = []
        self.kept: list[Hypothesis] = []
        self.done = False

    def step(self, rules: Rules, found: BeamRow, step: int, best: float) -> None:
        """Work out a step.

        Args:
            rules: the settings of the search.
            found: what is recorded of it.
            step: number of the step.
            best: the best score of a beam after it.
        """
        for each in found.continuations[: rules.beams]:
            if each.fate in ("hypothesis", "rejected", "closed") and not math.isnan(each.score):
                self._add(rules, each.score, (step, each.parent, each.token))
        full = len(self.kept) >= rules.beams
        worst = min(each.value for each in self.kept) if full else NO_HYPOTHESIS
        improvable = _attainable(rules, best, step) > worst
        self.done = (rules.early_stopping is True and full) or not improvable

    def _add(self, rules: Rules, total: float, ended: tuple[int, int, int]) -> None:
        """A sequence ends; it is kept if it is better than the worst one."""
        step, row, token = ended
        value = _value(rules, total, step)
        if len(self.kept) >= rules.beams:
            worst = min(self.kept, key=lambda each: each.value)
            if not value > worst.value:
                return
            self.kept.remove(worst)
        new = Hypothesis(
            number=len(self.all), step=step, row=row, token=token, total=total, length=step, value=value
        )
        self.all.append(new)
        self.kept.append(new)

    def outcome(self, returned: int) -> BeamOutcome:
        """What it has in the end.

        Args:
            returned: how many hypotheses are returned.
        """
        best = sorted(self.kept, key=lambda each: each.value)[::-1]
        return BeamOutcome(
            hypotheses=tuple(self.all),
            kept=tuple(each.number for each in self.kept),
            returned=tuple(each.number for each in best[:returned]),
        )


def require_order(rows: Sequence[BeamOutcome | None]) -> None:
    """Refuse what ``topk`` orders anyhow: equal hypotheses, and places without one, whose value is -1e9.

    Args:
        rows: what each row of the batch has; None where that is not known.

    Raises:
        UnsupportedError: the order is not known.
    """
    for row in rows:
        values = [] if row is None else [each.value for each in row.hypotheses]
        if len({*values}) < len(values) or not all(NO_HYPOTHESIS < each < math.inf for each in values):
            raise UnsupportedError(
                "Some hypotheses have equal values, or values that the library takes for none at all: in "
                "which order it would return them is not known."
            )


NO_HYPOTHESIS = -1e9
"""Value of a place that no hypothesis has taken."""


def _value(rules: Rules, total: float, length: int) -> float:
    with np.errstate(over="ignore", divide="ignore"):
        return float(np.float32(total) / np.float32(float(length**rules.length_penalty)))


def _attainable(rules: Rules, best: float, length: int) -> float:
    """The best value that a beam is taken to come to."""
    longest = rules.early_stopping == "never" and rules.length_penalty > 0
    return _value(rules, best, (rules.max_length or 0) if longest else length)


def _all_ended(beams: BeamStep) -> bool:
    return all(each.fate not in ("beam", "cut") for row in beams.rows for each in row.continuations)


def _beams(step: Step) -> BeamStep:
    assert step.head.beams is not None
    return step.head.beams
