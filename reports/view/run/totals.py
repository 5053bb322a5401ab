"""Counts over the steps of a run: checks, violations, capture faults and interventions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from reports.view.blocks import Note
from reports.view.figures import count, plural
from reports.view.stops.checks import uncaptured_note
from reports.view.text import plain
from tracer.schema.checks import CheckName
from tracer.schema.faults import Uncaptured
from tracer.schema.step import Step

_CHECKS: dict[CheckName, str] = {
    "cache": "KV cache",
    "positions": "positions and mask",
    "modules": "module calls",
    "finite": "finite values",
    "contrast": "contrast of layers",
}


@dataclass
class RunTotals:
    """Counts over the steps added so far.

    Attributes:
        steps: steps.
        generated: tokens generated, all rows; the padding of rows that have ended is left out.
        violations: checks that failed.
        errors: capture faults.
        interventions: changes by the user; a setting that stays changed in later steps is one.
        passed: per kind of check, the steps in which it passed.
        made: per kind of check, the steps in which it was made.
        leading: positions of each row before its first token id.
        not_made: per kind of check and reason, the steps in which it was not.
        uncaptured: captures that could not be had, each reason once.
    """

    steps: int = 0
    generated: int = 0
    violations: int = 0
    errors: int = 0
    interventions: int = 0
    leading: int = 0
    passed: Counter[CheckName] = field(default_factory=Counter)
    made: Counter[CheckName] = field(default_factory=Counter)
    not_made: Counter[tuple[CheckName, str]] = field(default_factory=Counter)
    uncaptured: list[Uncaptured] = field(default_factory=list)
    _settings: frozenset[str] = frozenset()

    def add(self, step: Step) -> None:
        """Count a step."""
        head = step.head
        self.steps += 1
        self.leading = head.inputs.leading
        self.violations += len(head.violations)
        self.errors += len(head.errors)
        self.interventions += self._new_changes(step)
        self.generated += _generated(step)
        self.uncaptured += head.uncaptured
        for check in head.checks:
            if check.result == "not made":
                self.not_made[check.name, check.reason or ""] += 1
                continue
            self.made[check.name] += 1
            self.passed[check.name] += check.held

    def _new_changes(self, step: Step) -> int:
        """Changes made in a step: the record of every later one repeats a setting that stays changed."""
        before = self._settings
        changes = step.head.interventions
        self._settings = frozenset(each.detail for each in changes if each.kind == "set")
        return sum(each.kind != "set" or each.detail not in before for each in changes)

    def notes(self) -> Iterator[Note]:
        """What the checks of all steps say, and which captures could not be had."""
        passed = self._passed_note()
        if passed is not None:
            yield passed
        yield from self.gaps()

    def gaps(self) -> Iterator[Note]:
        """Which checks were not made and which captures could not be had, with the reasons."""
        yield from map(uncaptured_note, self.uncaptured)
        for (name, why), steps in self.not_made.items():
            yield Note(f"Not checked in {plural(steps, 'step')}: {_CHECKS[name]}: {plain(why)}.", "fact")

    def _passed_note(self) -> Note | None:
        """The checks that passed in every step in which they were made; None if there is none."""
        names = [
            f"{text} ({count(self.made[name])})"
            for name, text in _CHECKS.items()
            if self.made[name] and self.passed[name] == self.made[name]
        ]
        if not names:
            return None
        return Note(
            f"Checks passed in every step they cover; steps covered, of {count(self.steps)}: "
            f"{', '.join(names)}.",
            "ok",
        )


def _generated(step: Step) -> int:
    """Tokens that a step generated; none where it failed before the choice."""
    if step.head.failure is not None and step.choice() is None:
        return 0
    return step.rows - (0 if step.scores is None else int(step.scores.finished.sum()))
