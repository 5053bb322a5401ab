r"""Conditions on a recorded step: ``p_chosen < 0.3``, ``token == "Large" and step > 3``, ``nonfinite``.

The language consists of the names and functions of :mod:`tracer.analysis.conditions.names`, numbers and
quoted texts, comparisons (also chained, and ``in``), ``and``, ``or``, ``not``, and ``+ - * / // %`` on
numbers.

In a batch a condition is evaluated for every row, and holds if it holds for any. A value that the record
lacks is unknown: the choice of a row that had ended before, scores that could not be recorded. A comparison
with an unknown value is unknown, and so is its negation; an unknown condition does not hold.

>>> condition = parse_condition('p_chosen < 0.3 and not removed("Large")')
>>> condition.texts
('Large',)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tracer.analysis.conditions.expression import Evaluator
from tracer.analysis.conditions.parser import Parser
from tracer.analysis.conditions.step_row import StepRow
from tracer.schema.run import RunHeader, TokenText
from tracer.schema.step import Step


@dataclass(frozen=True)
class Hit:
    """A condition that held.

    Attributes:
        condition: its text.
        run: number of the run.
        step: number of the step.
        row: the first row for which it held; None where the condition is the same for all rows.
        reason: the values that made it hold, e.g. ``p_chosen is 0.2131``.
    """

    condition: str
    run: int
    step: int
    row: int | None
    reason: str

    def __str__(self) -> str:
        place = "" if self.row is None else f", row {self.row}"
        return f"{self.condition} holds in step {self.step}{place}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Condition:
    """A parsed condition; made by :func:`parse_condition`.

    Attributes:
        text: the condition as it was written.
        texts: texts of tokens that it mentions; a caller with the tokenizer can look up their ids.
    """

    text: str
    texts: tuple[str, ...]
    _value: Evaluator
    _shown: Mapping[str, Evaluator]
    _per_row: bool

    def holds(self, step: Step, header: RunHeader, tokens: Mapping[int, TokenText]) -> bool:
        """Whether the condition holds for any row of a step.

        Args:
            step: the step.
            header: header of its run.
            tokens: texts of token ids; a token is found by its text among these.
        """
        return self.find(step, header, tokens) is not None

    def find(self, step: Step, header: RunHeader, tokens: Mapping[int, TokenText]) -> Hit | None:
        """The first row for which the condition holds, and why; None if it holds for none.

        Args:
            step: the step.
            header: header of its run.
            tokens: texts of token ids.
        """
        for index in range(step.rows if self._per_row else 1):
            row = StepRow(step, header, tokens, index)
            if self._value(row) is True:
                reason = ", ".join(f"{name} is {_shown(value(row))}" for name, value in self._shown.items())
                shown_row = index if self._per_row and step.rows > 1 else None
                return Hit(self.text, step.head.run, step.number, shown_row, reason or "always")
        return None


def parse_condition(text: str, numbers: Mapping[str, int] | None = None) -> Condition:
    """Parse a condition.

    Args:
        text: the condition, at most 500 characters.
        numbers: further names that it may use, each for a number.

    Raises:
        UsageError: it is not a condition; the message gives the position and the known names.
    """
    parser = Parser(text, numbers or {})
    whole = parser.parse()
    return Condition(parser.text, tuple(parser.texts), whole.value, dict(parser.shown), parser.per_row)


def value_of(text: str, row: StepRow) -> str:
    """The value of a text of the language for a row, in words: of a condition, a name or arithmetic.

    Args:
        text: e.g. ``p_chosen``, ``margin * 2``, ``removed("Large")``, ``entropy > 4``.
        row: the row of a step.

    Raises:
        UsageError: it is not of the language; the message gives the position and the known names.
    """
    return _shown(Parser(text).parse_value().value(row), digits=9)


def find_hits(
    conditions: Iterable[Condition], step: Step, header: RunHeader, tokens: Mapping[int, TokenText]
) -> tuple[Hit, ...]:
    """The conditions that hold in a step, each with its first row.

    Args:
        conditions: the conditions to evaluate.
        step: the step.
        header: header of its run.
        tokens: texts of token ids.
    """
    found = (condition.find(step, header, tokens) for condition in conditions)
    return tuple(hit for hit in found if hit is not None)


def _shown(value: object, digits: int = 4) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    return repr(value) if isinstance(value, str) else str(value)
