"""The grammar of conditions: from text to an :class:`Expression`, without ever running it as Python.

Python's own parser makes the syntax tree. Every node that is not handled below is refused, and so is a
comparison of unrelated kinds. An expression is made of functions of this package: a condition reaches nothing
by name but :data:`NAMES` and :data:`FUNCTIONS`.
"""

from __future__ import annotations

import ast
import difflib
import math
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from tracer.analysis.conditions.expression import (
    Evaluator,
    Expression,
    MismatchError,
    contained,
    equal,
    junction,
    lift,
    negated,
    ordered,
)
from tracer.analysis.conditions.names import FUNCTIONS, NAMES, known_names
from tracer.analysis.conditions.step_row import StepRow, TokenQuery
from tracer.errors import UsageError

MAX_LENGTH = 500
MAX_NODES = 150
MAX_DEPTH = 24

_NO_NUMBERS: Mapping[str, int] = MappingProxyType({})

_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


class Parser:
    """Checks one condition and builds its :class:`Expression`.

    Args:
        text: the condition; line breaks count as spaces.
        numbers: further names, each for a number.

    Attributes:
        text: the condition in one line.
        shown: what a report says about a row: each name or function call with its value.
        texts: texts of tokens that the condition mentions.
        per_row: whether its value can differ between rows.
    """

    def __init__(self, text: str, numbers: Mapping[str, int] = _NO_NUMBERS) -> None:
        self.text = " ".join(text.splitlines()).strip()
        self._numbers = numbers
        self.shown: dict[str, Evaluator] = {}
        self.texts: list[str] = []
        self.per_row = False

    def parse(self) -> Expression:
        """Parse and check the whole text.

        Raises:
            UsageError: it is not a condition; the message gives the position and what is known.
        """
        return self._truth(self._parsed())

    def parse_value(self) -> Expression:
        """Parse a text that need not be a condition: a name, a function call or arithmetic will do too.

        Raises:
            UsageError: it is not of the language; the message gives the position and what is known.
        """
        return self._expression(self._parsed())

    def _parsed(self) -> ast.expr:
        if not self.text:
            self._fail(0, "it is empty")
        if len(self.text) > MAX_LENGTH:
            self._fail(MAX_LENGTH, f"it is longer than {MAX_LENGTH} characters")
        tree = self._tree()
        count = sum(1 for _ in ast.walk(tree))
        if count > MAX_NODES or _depth(tree.body) > MAX_DEPTH:
            self._fail(0, "it is too deeply nested or has too many parts")
        return tree.body

    def _tree(self) -> ast.Expression:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                warnings.simplefilter("ignore", DeprecationWarning)
                return ast.parse(self.text, mode="eval")
        except SyntaxError as error:
            self._fail(max(0, (error.offset or 1) - 1), _syntax_hint(self.text, error))
        except (ValueError, RecursionError, MemoryError) as error:
            self._fail(0, f"it cannot be read: {str(error)[:80] or 'too deeply nested'}")

    def _expression(self, node: ast.expr) -> Expression:
        if isinstance(node, ast.BoolOp):
            return self._junction(node)
        if isinstance(node, ast.UnaryOp):
            return self._unary(node)
        if isinstance(node, ast.BinOp):
            return self._arithmetic(node)
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        if isinstance(node, ast.Name):
            return self._name(node)
        if isinstance(node, ast.Call):
            return self._function(node)
        if isinstance(node, ast.Constant):
            return self._constant(node)
        return self._refuse(node)

    def _refuse(self, node: ast.expr) -> NoReturn:
        what = "a dot" if isinstance(node, ast.Attribute) else "this"
        self._fail_at(node, f"{what} is not part of the language")

    def _constant(self, node: ast.Constant) -> Expression:
        value = node.value
        if isinstance(value, bool):
            return Expression("truth", lambda _row: value, value)
        if isinstance(value, int | float):
            if not math.isfinite(value) or abs(value) >= 1 << 63:
                self._fail_at(node, "this number is too large")
            return Expression("number", lambda _row: value, value)
        if isinstance(value, str):
            return Expression("text", lambda _row: value, value)
        return self._refuse(node)

    def _name(self, node: ast.Name) -> Expression:
        if node.id in self._numbers:
            return self._constant(ast.Constant(self._numbers[node.id]))
        found = NAMES.get(node.id)
        if found is None:
            if node.id in FUNCTIONS:
                self._fail_at(node, f'{node.id} needs a token, as in {node.id}("Large")')
            self._fail_unknown(node, node.id)
        self.shown[node.id] = found.value
        self.per_row = self.per_row or found.per_row
        return Expression(found.kind, found.value)

    def _function(self, node: ast.Call) -> Expression:
        if not isinstance(node.func, ast.Name):
            self._refuse(node.func)
        name = node.func.id
        found = FUNCTIONS.get(name)
        if found is None:
            if name in NAMES:
                self._fail_at(node, f"{name} takes no token; write it without parentheses")
            self._fail_unknown(node, name)
        single = node.args[0] if len(node.args) == 1 and not node.keywords else None
        wanted = single.value if isinstance(single, ast.Constant) else None
        if isinstance(wanted, bool) or not isinstance(wanted, int | str):
            self._fail_at(node, f'{name} takes one token, by text or id, as in {name}("Large")')
        self._mention(wanted)
        function, token = found, TokenQuery(wanted)

        def answer(row: StepRow) -> Any:
            return function.evaluate(row, token)

        self.shown[ast.get_source_segment(self.text, node) or name] = answer
        self.per_row = True
        return Expression(found.kind, answer)

    def _mention(self, wanted: object) -> None:
        if isinstance(wanted, str) and wanted not in self.texts:
            self.texts.append(wanted)

    def _junction(self, node: ast.BoolOp) -> Expression:
        parts = [self._truth(part).value for part in node.values]
        return Expression("truth", junction(parts, decisive=isinstance(node.op, ast.Or)))

    def _truth(self, node: ast.expr) -> Expression:
        part = self._expression(node)
        if part.kind != "truth":
            self._fail_at(node, f"this is a {part.kind_name}; compare it, as in `p_chosen < 0.3`")
        return part

    def _unary(self, node: ast.UnaryOp) -> Expression:
        if isinstance(node.op, ast.Not):
            return Expression("truth", negated(self._truth(node.operand).value))
        if not isinstance(node.op, ast.USub | ast.UAdd):
            self._fail_at(node, "this operator is not part of the language")
        inner = self._number(node.operand)
        sign = operator.neg if isinstance(node.op, ast.USub) else operator.pos
        constant = inner.constant
        return Expression(
            "number",
            lift(sign, inner.value),
            sign(constant) if isinstance(constant, int | float) else None,
        )

    def _number(self, node: ast.expr) -> Expression:
        part = self._expression(node)
        if part.kind != "number":
            self._fail_at(node, f"this is a {part.kind_name}, not a number")
        return part

    def _arithmetic(self, node: ast.BinOp) -> Expression:
        compute = _ARITHMETIC.get(type(node.op))
        if compute is None:
            self._fail_at(node, "this operator is not part of the language")
        left, right = self._number(node.left).value, self._number(node.right).value
        return Expression("number", lift(compute, left, right))

    def _comparison(self, node: ast.Compare) -> Expression:
        """A chain of comparisons, all of whose pairs have to hold."""
        parts: list[Evaluator] = []
        left_node: ast.expr = node.left
        left = self._operand(left_node)
        for place, (sign, right_node) in enumerate(zip(node.ops, node.comparators, strict=True), 1):
            if isinstance(sign, ast.In | ast.NotIn):
                if place < len(node.ops):
                    self._fail_at(right_node, "`in` cannot be followed by another comparison")
                inside = self._membership(left, right_node)
                parts.append(inside if isinstance(sign, ast.In) else negated(inside))
            else:
                right = self._operand(right_node)
                parts.append(self._pair(left, sign, right, left_node))
                left_node, left = right_node, right
        return Expression("truth", junction(parts, decisive=False))

    def _operand(self, node: ast.expr) -> Expression:
        if isinstance(node, ast.Tuple | ast.List):
            self._fail_at(node, "a list can only follow `in`")
        return self._expression(node)

    def _pair(self, left: Expression, sign: ast.cmpop, right: Expression, node: ast.expr) -> Evaluator:
        if type(sign) in _ORDER:
            return self._combined(node, lambda: ordered(_ORDER[type(sign)], left, right))
        if not isinstance(sign, ast.Eq | ast.NotEq):
            self._fail_at(node, "use == to compare")
        same = self._equal(left, right, node)
        return same if isinstance(sign, ast.Eq) else negated(same)

    def _equal(self, left: Expression, right: Expression, node: ast.expr) -> Evaluator:
        if "token" in (left.kind, right.kind):
            self._mention(left.constant)
            self._mention(right.constant)
        return self._combined(node, lambda: equal(left, right))

    def _combined(self, node: ast.expr, combine: Callable[[], Evaluator]) -> Evaluator:
        try:
            return combine()
        except MismatchError as error:
            self._fail_at(node, str(error))

    def _membership(self, left: Expression, node: ast.expr) -> Evaluator:
        """``x in (a, b)``, ``x in [a, b]``, ``"ar" in text``."""
        if not isinstance(node, ast.Tuple | ast.List):
            right = self._expression(node)
            return self._combined(node, lambda: contained(left, right))
        if not node.elts:
            self._fail_at(node, "this list is empty")
        equals = [self._equal(left, self._operand(element), element) for element in node.elts]
        return junction(equals, decisive=True)

    def _fail_unknown(self, node: ast.expr, name: str) -> NoReturn:
        near = difflib.get_close_matches(name, (*self._numbers, *NAMES, *FUNCTIONS), n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        self._fail_at(node, f"unknown name {name}{hint}; known are {known_names()}")

    def _fail_at(self, node: ast.expr, problem: str) -> NoReturn:
        # Python counts bytes, the message counts characters.
        before = self.text.encode()[: node.col_offset].decode(errors="ignore")
        self._fail(len(before), problem)

    def _fail(self, place: int, problem: str) -> NoReturn:
        text = self.text if len(self.text) <= 80 else self.text[:79] + "…"
        raise UsageError(f"condition {text!r}, character {place + 1}: {problem}")


def _depth(node: ast.AST) -> int:
    """Levels of a tree, counted without recursion: the tree may be deeper than Python's stack."""
    deepest, waiting = 0, [(node, 1)]
    while waiting:
        current, level = waiting.pop()
        deepest = max(deepest, level)
        waiting += [(child, level + 1) for child in ast.iter_child_nodes(current)]
    return deepest


def _syntax_hint(text: str, error: SyntaxError) -> str:
    for wrong, right in (("&&", "`and`"), ("||", "`or`"), ("!", "`not`, or != to compare,")):
        if wrong in text.replace("!=", ""):
            return f"use {right} instead of {wrong}"
    if "=" in re.sub("[=!<>]=", "", text):
        return "use == to compare"
    return f"it cannot be read: {error.msg}"
