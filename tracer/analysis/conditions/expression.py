"""Parts of a condition that know how to combine: what has nothing in common is refused.

A value that the record lacks is None. It makes a comparison None, and ``and``, ``or``, ``not`` follow
Kleene: a condition that stays None does not hold.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tracer.analysis.conditions.names import Kind
from tracer.analysis.conditions.step_row import StepRow, Token

Value: TypeAlias = Callable[[StepRow], Any]


class MismatchError(Exception):
    """Two parts that cannot be combined; the message says why."""


@dataclass(frozen=True)
class Expression:
    """A checked part of a condition.

    Attributes:
        kind: what it gives.
        value: gives it for a row; None where the record lacks what it needs.
        constant: its value if it is a literal, else None.
    """

    kind: Kind
    value: Value
    constant: int | float | str | bool | None = None

    @property
    def kind_name(self) -> str:
        """Its kind, for people."""
        return "yes-or-no value" if self.kind == "truth" else self.kind


def lift(function: Callable[..., Any], *parts: Value) -> Value:
    """Apply a function to values; None if one is None or nothing sensible comes out.

    Args:
        function: of as many values as there are parts.
        parts: give the values.
    """

    def value(facts: StepRow) -> Any:
        given = [part(facts) for part in parts]
        if any(each is None for each in given):
            return None
        try:
            return function(*given)
        except ArithmeticError:
            return None

    return value


def negated(part: Value) -> Value:
    """The opposite; of None, None."""
    return lift(operator.not_, part)


def junction(parts: Sequence[Value], *, decisive: bool) -> Value:
    """``or`` (decided by the first True) or ``and`` (by the first False).

    Args:
        parts: what is joined.
        decisive: True for ``or``.
    """

    def value(facts: StepRow) -> bool | None:
        known = True
        for part in parts:
            answer = part(facts)
            if answer is decisive:
                return bool(decisive)
            known = known and answer is not None
        return not decisive if known else None

    return value


def ordered(compare: Callable[[Any, Any], bool], left: Expression, right: Expression) -> Value:
    """``<`` and its like.

    Raises:
        MismatchError: one of them is no number.
    """
    if left.kind != "number" or right.kind != "number":
        raise MismatchError(f"a {left.kind_name} and a {right.kind_name} have no order; only numbers have")
    return lift(compare, left.value, right.value)


def equal(left: Expression, right: Expression) -> Value:
    """``==``.

    Raises:
        MismatchError: they can never be equal.
    """
    if right.kind == "token" and left.kind != "token":
        left, right = right, left
    if left.kind == "token":
        return _is_token(left, right)
    if left.kind != right.kind:
        raise MismatchError(f"a {left.kind_name} never equals a {right.kind_name}")
    return lift(operator.eq, left.value, right.value)


def _is_token(token: Expression, other: Expression) -> Value:
    if other.kind == "token":
        return lift(lambda one, two: one.id == two.id, token.value, other.value)
    wanted = other.constant
    if isinstance(wanted, bool) or not isinstance(wanted, int | str):
        raise MismatchError('a token is compared with a text or an id, as in `token == "Large"`')
    return lift(lambda found: found.is_meant_by(wanted), token.value)


def contained(left: Expression, right: Expression) -> Value:
    """``"ar" in text``.

    Raises:
        MismatchError: they are no texts.
    """
    if left.kind != "text" or right.kind not in ("text", "token"):
        raise MismatchError('`in` needs a list or a text, as in `step in (1, 2)` or `"ar" in text`')
    return lift(lambda part, whole: part in whole, left.value, _text_of(right))


def _text_of(expression: Expression) -> Value:
    if expression.kind == "text":
        return expression.value

    def text(facts: StepRow) -> str | None:
        token: Token | None = expression.value(facts)
        return None if token is None else token.text

    return text
