"""Counts over the steps of a run: checks, violations, capture faults and interventions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from reports.view.blocks import Note
from reports.view.figures import count, plural
from reports.view.stops.checks import uncaptured_note
from reports.view.text import plain
from tracer.schema.assisted import AssistedStep
from tracer.schema.checks import CheckName
from tracer.schema.faults import Uncaptured
from tracer.schema.step import Step

_CHECKS: dict[CheckName, str] = {
    "cache": "KV cache",
    "positions": "positions and mask",
    "modules": "module calls",
    "finite": "finite values",
    "contrast": "contrast of layers",
    "beams": "beams",
    "constraints": "states of constraints",
    "returned": "what was returned",
    "assisted": "accepted proposals",
    "ranking": "ranking of candidates",
    "selection": "selection from the cache",
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
        appended: in assisted decoding the tokens that each step appended.
        proposed: in assisted decoding how many tokens were proposed.
        accepted: how many of them were accepted.
        drafts: forward passes of the draft model.
        ranked: in contrastive search how many tokens its ranking chose.
        penalised: how many of them were not the most probable candidate.
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
    appended: list[tuple[int, ...]] = field(default_factory=list)
    proposed: int = 0
    accepted: int = 0
    drafts: int = 0
    ranked: int = 0
    penalised: int = 0
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
        if head.assisted is not None:
            self._add_proposals(head.assisted)
        for row in () if head.contrastive is None else head.contrastive.rows:
            self.ranked += row is not None
            self.penalised += row is not None and row.penalty_decided
        for check in head.checks:
            if check.result == "not made":
                self.not_made[check.name, check.reason or ""] += 1
                continue
            self.made[check.name] += 1
            self.passed[check.name] += check.held

    def _add_proposals(self, assisted: AssistedStep) -> None:
        self.appended.append(assisted.appended)
        self.proposed += len(assisted.proposals)
        self.accepted += assisted.accepted
        self.drafts += assisted.forwards

    def assistance(self) -> Iterator[Note]:
        """How many proposals were accepted, and what that saved; nothing for a run without them."""
        if not self.appended:
            return
        tokens = sum(map(len, self.appended))
        share = f" ({self.accepted / self.proposed:.0%})" if self.proposed else ""
        drafts = f" and {plural(self.drafts, 'pass', 'passes')} of the draft model" if self.drafts else ""
        yield Note(
            f"Assisted: {count(self.accepted)} of {plural(self.proposed, 'proposal')} accepted{share}; "
            f"{plural(self.steps, 'forward pass', 'forward passes')} of the model{drafts} for "
            f"{plural(tokens, 'token')}, {count(tokens - self.steps)} of the model's saved.",
            "fact",
        )

    def rankings(self) -> Iterator[Note]:
        """In how many choices a contrastive search differs from greedy decoding; nothing for another run."""
        if self.ranked:
            yield Note(
                f"The penalty decided {count(self.penalised)} of {plural(self.ranked, 'choice')}: there "
                "greedy decoding would have taken another token.",
                "fact",
            )

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
        """What else there is to say: proposals, checks not made, captures that could not be had."""
        yield from self.assistance()
        yield from self.rankings()
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
    if step.head.assisted is not None:
        return len(step.head.assisted.appended)
    return step.rows - (0 if step.scores is None else int(step.scores.finished.sum()))
