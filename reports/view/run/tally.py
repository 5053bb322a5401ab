"""How many proofs, violations, faults and interventions the steps of a run hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from reports.view.blocks import Note
from reports.view.figures import count, plural
from tracer.schema.step import CheckName, Step

_PROVEN: dict[CheckName, str] = {
    "cache": "KV cache",
    "positions": "positions and mask",
    "modules": "module calls",
    "finite": "finite values",
}


@dataclass
class Tally:
    """Counts over the steps seen so far.

    Attributes:
        steps: steps.
        violations: proofs that did not hold.
        errors: faults in recording.
        interventions: changes by the user.
        held: per kind of check the steps in which it was made and held.
        made: and in which it was made.
    """

    steps: int = 0
    violations: int = 0
    errors: int = 0
    interventions: int = 0
    held: Counter[CheckName] = field(default_factory=Counter)
    made: Counter[CheckName] = field(default_factory=Counter)

    def add(self, step: Step) -> None:
        """Count a step."""
        head = step.head
        self.steps += 1
        self.violations += len(head.violations)
        self.errors += len(head.errors)
        self.interventions += len(head.interventions)
        for check in head.checks:
            self.made[check.name] += 1
            self.held[check.name] += check.ok

    def proof(self) -> Note | None:
        """What was proven in every step in which it was looked at; None where nothing was."""
        names = [
            f"{text} ({count(self.made[name])})"
            for name, text in _PROVEN.items()
            if self.made[name] and self.held[name] == self.made[name]
        ]
        if not names:
            return None
        return Note(
            f"Checked and held, in so many of {plural(self.steps, 'step')}: {', '.join(names)}.", "ok"
        )
