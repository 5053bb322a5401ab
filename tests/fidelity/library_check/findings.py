"""What was seen while the tests ran, and the table that says so."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["difference", "alarm"]
"""Another result than untraced; or a trace that is not whole, or says that something is wrong."""


@dataclass
class ClassTally:
    """The ``generate()`` calls of one model class.

    Attributes:
        calls: outermost calls of a decoder-only model.
        traced: those that were traced.
        compared: those of them that were made untraced too, and compared.
        refused: those that the tracer refused, by the name that it gave.
        steps: recorded steps.
        left_out: captures that the tracer refuses for the model, by number of calls.
        found: number of findings of each kind.
    """

    calls: int = 0
    traced: int = 0
    compared: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    found: Counter[Kind] = field(default_factory=Counter)


@dataclass
class Example:
    """A finding that came up, once or often with other figures in it.

    Attributes:
        kind: what it is.
        class_name: the model's class.
        message: what was seen first.
        test: the test in which that was.
        count: number of times.
    """

    kind: Kind
    class_name: str
    message: str
    test: str
    count: int = 0


@dataclass
class Findings:
    """Everything that was seen, over all tests.

    Attributes:
        classes: a tally for each model class.
        examples: an example of each finding, by kind, class and its words without figures.
        failed_too: tests that fail untraced too.
        not_collected: files whose tests could not be collected, with the reason.
        encoder_decoders: calls of models that are not decoder-only.
    """

    classes: defaultdict[str, ClassTally] = field(default_factory=lambda: defaultdict(ClassTally))
    examples: dict[tuple[Kind, str, str], Example] = field(default_factory=dict)
    failed_too: list[str] = field(default_factory=list)
    not_collected: dict[str, str] = field(default_factory=dict)
    encoder_decoders: int = 0

    def add(self, kind: Kind, class_name: str, test: str, message: str) -> None:
        """Note a finding.

        Args:
            kind: what it is.
            class_name: the model's class.
            test: the test in which it came up.
            message: what was seen.
        """
        self.classes[class_name].found[kind] += 1
        key = (kind, class_name, re.sub(r"\d+", "n", message))
        self.examples.setdefault(key, Example(kind, class_name, message, test)).count += 1

    @property
    def exit_code(self) -> int:
        """0 if all is as it should be; 1 for a difference or an alarm; 2 if too little was run to say so."""
        if self.examples:
            return 1
        traced = any(tally.traced for tally in self.classes.values())
        return 0 if traced and not self.not_collected else 2

    def lines(self) -> Iterator[str]:
        """The report."""
        yield from self._table()
        yield from self._refusals()
        if self.encoder_decoders:
            yield f"not traced: {self.encoder_decoders} calls of models that are not decoder-only"
        if self.failed_too:
            yield f"fail untraced too: {len(self.failed_too)} tests"
        for path, reason in self.not_collected.items():
            yield f"not collected: {path}: {reason}"
        for found in self.examples.values():
            said = f"{found.kind}: {found.class_name}: {found.message}"
            yield f"{said} ({found.count} times, first in {found.test})"
        if not any(tally.traced for tally in self.classes.values()):
            yield "No generate() was traced."

    def _table(self) -> Iterator[str]:
        titles = ("model class", "calls", "traced", "compared", "refused", "steps", "differences", "alarms")
        total = ClassTally()
        rows: list[tuple[str, ...]] = [titles]
        for name, tally in sorted(self.classes.items()):
            rows.append(_row(name, tally))
            _add(total, tally)
        rows.append(_row("all", total))
        widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]
        for row in rows:
            name, *figures = row
            yield name.ljust(widths[0]) + "".join(
                f"  {figure.rjust(width)}" for figure, width in zip(figures, widths[1:], strict=True)
            )

    def _refusals(self) -> Iterator[str]:
        for name, tally in sorted(self.classes.items()):
            if tally.left_out:
                yield f"captures refused: {name}: {', '.join(tally.left_out)}"
        names: Counter[str] = Counter()
        for tally in self.classes.values():
            names.update(tally.refused)
        for name, count in names.most_common():
            yield f"refused by name: {name}, {count} times"


def _add(total: ClassTally, tally: ClassTally) -> None:
    total.calls += tally.calls
    total.traced += tally.traced
    total.compared += tally.compared
    total.refused.update(tally.refused)
    total.steps += tally.steps
    total.found.update(tally.found)


def _row(name: str, tally: ClassTally) -> tuple[str, ...]:
    figures = (tally.calls, tally.traced, tally.compared, tally.refused.total(), tally.steps)
    return (name, *map(str, figures), str(tally.found["difference"]), str(tally.found["alarm"]))
