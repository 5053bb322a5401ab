"""What a beam scorer would have kept of recorded continuations under other settings.

A row of the batch that is done is filled up, and nothing more is known of it. In group search a later group
pays for the tokens of earlier ones, also for those that fill up: it goes on as recorded only as long as all
earlier groups of its row are done where they were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tracer.analysis.hypotheses import Hypotheses, Rules, outcome
from tracer.schema.beams import BeamOutcome, BeamRow, BeamStep, Hypothesis
from tracer.schema.step import Step


class KeptByScorer:
    """The hypotheses of all rows of the batch while their steps are worked out again.

    Args:
        rules: the settings of the search; its ``max_length`` is without the prompt.
        steps: the recorded steps.
        returned: how many hypotheses of each row are returned.

    Attributes:
        last: the step in which the search is over; None where it would go on behind the recorded ones.
    """

    def __init__(self, rules: Rules, steps: Sequence[Step], returned: int) -> None:
        first = _beams(steps[0])
        self.last: int | None = None
        self._rules = rules
        self._returned = returned
        self._rows = [_Row(first.groups) for _ in range(len(first.rows) // first.groups)]
        self._work_out(steps)

    @property
    def rows(self) -> tuple[BeamOutcome | None, ...]:
        """What each row of the batch has in the end; None where that is not known."""
        return tuple(row.outcome(self._returned) for row in self._rows)

    @property
    def parts(self) -> tuple[int | None, ...]:
        """For each row the last step that is recorded of it, where it would go on another way."""
        return tuple(row.parted for row in self._rows)

    def _work_out(self, steps: Sequence[Step]) -> None:
        for step in steps:
            found = _beams(step)
            for number, row in enumerate(self._rows):
                row.step(self._rules, found.rows[number * found.groups :][: found.groups], step.number)
            if all(row.done for row in self._rows):
                self.last = step.number
                return
        self._end_open(steps[-1])
        self.last = None if any(row.parted is not None for row in self._rows) else steps[-1].number

    def _end_open(self, step: Step) -> None:
        """The recorded run is over, by a stopping criterion or since all its rows were done."""
        fired = {row for answer in step.head.criteria for row in answer.fired}
        over = step.number >= (self._rules.max_length or 0) or len(fired) == step.rows
        found = _beams(step)
        for number, row in enumerate(self._rows):
            if over:
                row.end_open(self._rules, found, number, step.number, self._returned)
            else:
                row.part(step.number)


class _Row:
    """The hypotheses of one row of the batch, group by group.

    Args:
        groups: its groups; 1 where there are none.
    """

    def __init__(self, groups: int) -> None:
        self._all: list[Hypothesis] = []
        self._groups = [Hypotheses(self._all) for _ in range(groups)]
        self._parted: dict[int, int] = {}

    @property
    def done(self) -> bool:
        """Whether no group takes a further hypothesis."""
        return all(each.done for each in self._groups)

    @property
    def parted(self) -> int | None:
        """The last step that is recorded of it; None where all are."""
        return min(self._parted.values(), default=None)

    def part(self, step: int, groups: Sequence[int] | None = None) -> None:
        """Groups that are not done go on in a way that is not recorded.

        Args:
            step: the last step that is recorded of them.
            groups: the groups; None for all.
        """
        for group in range(len(self._groups)) if groups is None else groups:
            if not self._groups[group].done:
                self._parted.setdefault(group, step)

    def step(self, rules: Rules, found: Sequence[BeamRow], number: int) -> None:
        """Work out a step.

        Args:
            rules: the settings of the search.
            found: what is recorded of its groups.
            number: number of the step.
        """
        as_recorded = True
        for group, (kept, own) in enumerate(zip(self._groups, found, strict=True)):
            was_done = kept.done
            # It was done in the run, and nothing is known of what it would have.
            if not as_recorded or not own.continuations:
                self.part(number - 1, [group])
            if not was_done and group not in self._parted:
                _add_ended(rules, kept, own, number)
                best = max(each.score for each in own.continuations if not each.forced)
                kept.close(rules, best, number, 0)
            as_recorded &= group not in self._parted and was_done == (not own.continuations)

    def end_open(self, rules: Rules, found: BeamStep, number: int, step: int, returned: int) -> None:
        """Its open beams end with the run.

        Args:
            rules: the settings of the search.
            found: the last step.
            number: its number among the rows of the batch.
            step: number of that step.
            returned: how many hypotheses of each row are returned.
        """
        met = _met(found)
        for group, kept in enumerate(self._groups):
            if not kept.done and group not in self._parted:
                first = (number * len(self._groups) + group) * found.beams
                beams = {row: found.scores[row] for row in range(first, first + found.beams)}
                kept.add_open(rules, step, beams, step, met=met, returned=returned)

    def outcome(self, returned: int) -> BeamOutcome | None:
        """What it has in the end; None where that is not known.

        Args:
            returned: how many hypotheses are returned.
        """
        return None if self._parted else outcome(self._all, self._groups, returned)


def _add_ended(rules: Rules, kept: Hypotheses, found: BeamRow, step: int) -> None:
    """The continuations that may end do, in their order."""
    for each in found.continuations[: rules.beams]:
        if each.fate in ("hypothesis", "rejected") and not math.isnan(each.score):
            kept.add(rules, step, each.parent, each.token, each.score, step)


def _met(found: BeamStep) -> set[int] | None:
    """The rows that have met all constraints behind a step; None without constraints."""
    if found.constraints is None:
        return None
    return {
        row
        for row, reached in enumerate(found.constraints.progress)
        if reached and all(each.status == "met" for each in reached)
    }


def _beams(step: Step) -> BeamStep:
    assert step.head.beams is not None
    return step.head.beams
