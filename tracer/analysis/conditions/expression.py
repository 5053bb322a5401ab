"""Typed parts of a condition and the operators that combine them; operands of unrelated kinds are refused.

A value that the record lacks is None. A comparison with it is None, and ``and``, ``or``, ``not`` follow
Kleene's three-valued logic: a condition that is None does not hold.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tracer.analysis.conditions.names import ValueKind
from tracer.analysis.conditions.step_row import StepRow, Token

Evaluator: TypeAlias = Callable[[StepRow], Any]
"""Gives the value of a part of a condition for one row of a step."""


class MismatchError(Exception):
    """Two operands that cannot be combined; the message says why."""


@dataclass(frozen=True)
class Expression:
    """A type-checked part of a condition.

    Attributes:
        kind: kind of its value.
        value: gives the value for a row; None where the record lacks what it needs.
        constant: its value if it is a literal, else None.
    """

    kind: ValueKind
    value: Evaluator
    constant: int | float | str | bool | None = None

    @property
    def kind_name(self) -> str:
        """The kind as error messages name it."""
        return "yes-or-no value" if self.kind == "truth" else self.kind


def lift(function: Callable[..., Any], *parts: Evaluator) -> Evaluator:
    """Apply a function to values; None if one of them is None or the arithmetic fails.

    Args:
        function: a function of as many values as there are parts.
        parts: give the values.
    """

    def value(row: StepRow) -> Any:
        given = [part(row) for part in parts]
        if any(each is None for each in given):
            return None
        try:
            return function(*given)
        except ArithmeticError:
            return None

    return value


def negated(part: Evaluator) -> Evaluator:
    """``not``; None for None."""
    return lift(operator.not_, part)


def junction(parts: Sequence[Evaluator], *, decisive: bool) -> Evaluator:
    """``or`` (decided by the first True) or ``and`` (by the first False).

    Args:
        parts: the operands.
        decisive: True for ``or``.
    """

    def value(row: StepRow) -> bool | None:
        known = True
        for part in parts:
            answer = part(row)
            if answer is decisive:
                return bool(decisive)
            known = known and answer is not None
        return not decisive if known else None

    return value


def ordered(compare: Callable[[Any, Any], bool], left: Expression, right: Expression) -> Evaluator:
    """``<``, ``<=``, ``>`` or ``>=``.

    Raises:
        MismatchError: an operand is not a number.
    """
    if left.kind != "number" or right.kind != "number":
        raise MismatchError(f"a {left.kind_name} and a {right.kind_name} have no order; only numbers have")
    return lift(compare, left.value, right.value)


def equal(left: Expression, right: Expression) -> Evaluator:
    """``==``.

    Raises:
        MismatchError: the operands can never be equal.
    """
    if right.kind == "token" and left.kind != "token":
        left, right = right, left
    if left.kind == "token":
        return _is_token(left, right)
    if left.kind != right.kind:
        raise MismatchError(f"a {left.kind_name} never equals a {right.kind_name}")
    return lift(operator.eq, left.value, right.value)


def _is_token(token: Expression, other: Expression) -> Evaluator:
    if other.kind == "token":
        return lift(lambda one, two: one.id == two.id, token.value, other.value)
    wanted = other.constant
    if isinstance(wanted, bool) or not isinstance(wanted, int | str):
        raise MismatchError('a token is compared with a text or an id, as in `token == "Large"`')
    return lift(lambda found: found.is_meant_by(wanted), token.value)


def contained(left: Expression, right: Expression) -> Evaluator:
    """``"ar" in text``.

    Raises:
        MismatchError: the operands are not texts.
    """
    if left.kind != "text" or right.kind not in ("text", "token"):
        raise MismatchError('`in` needs a list or a text, as in `step in (1, 2)` or `"ar" in text`')
    return lift(lambda part, whole: part in whole, left.value, _text_of(right))


def _text_of(expression: Expression) -> Evaluator:
    if expression.kind == "text":
        return expression.value

    def text(row: StepRow) -> str | None:
        token: Token | None = expression.value(row)
        return None if token is None else token.text

    return text
