"""Names with dots and brackets: ``outputs.logits[:, -1].shape``. Nothing of it is run as Python.

Python's own parser makes the syntax tree; every node that is not handled below is refused.
"""

from __future__ import annotations

import ast
import difflib
import warnings
from collections.abc import Mapping, Sequence
from types import EllipsisType

from tracer.errors import UsageError
from tracer.messages import one_line
from tracer.replay.values.value import Index, Make, Value

_MAX_LENGTH, _MAX_NODES = 500, 150


def root_name(text: str) -> str | None:
    """The name that a text begins with, if it is a name with dots and brackets; else None.

    Args:
        text: the text.
    """
    try:
        node: ast.expr | None = _tree(text)
    except UsageError:
        return None
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def look_up(text: str, variables: Mapping[str, Make]) -> Value:
    """The value of a name with dots and brackets.

    Args:
        text: the text.
        variables: makes each variable, by name.

    Raises:
        UsageError: it is something else, or there is no such variable or part.
    """
    return _value(_tree(text), variables)


def unknown_name(name: str, known: Sequence[str]) -> UsageError:
    """The error for a name that nothing has.

    Args:
        name: the name.
        known: the names that there are.
    """
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "Locals and the names of conditions are known"
    return UsageError(f"there is no {one_line(name, 60)} in a recording; {hint}")


def _tree(text: str) -> ast.expr:
    if len(text) > _MAX_LENGTH:
        raise UsageError(f"an expression has at most {_MAX_LENGTH} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        problem = error.msg if isinstance(error, SyntaxError) else "too deeply nested"
        raise UsageError(f"{one_line(text, 60)!r} cannot be read: {problem}") from None
    if sum(1 for _ in ast.walk(tree)) > _MAX_NODES:
        raise UsageError("this expression has too many parts")
    return tree.body


def _value(node: ast.expr, variables: Mapping[str, Make]) -> Value:
    if isinstance(node, ast.Name):
        if node.id not in variables:
            raise unknown_name(node.id, (*variables,))
        return variables[node.id]()
    if isinstance(node, ast.Attribute):
        return _value(node.value, variables).attribute(node.attr)
    if isinstance(node, ast.Subscript):
        return _value(node.value, variables).at(_index(node.slice))
    raise UsageError(
        "a recording knows names with dots and brackets, as in outputs.logits[:, -1].shape; and conditions, "
        "as in p_chosen < 0.3"
    )


def _index(node: ast.expr) -> Index:
    if isinstance(node, ast.Tuple):
        return tuple(_index(each) for each in node.elts)
    if isinstance(node, ast.Slice):
        return slice(*(_bound(each) for each in (node.lower, node.upper, node.step)))
    found = _literal(node)
    if isinstance(found, int | str | EllipsisType) or found is None:
        return found
    raise UsageError(
        f"between brackets stand numbers, slices and texts, not {one_line(ast.unparse(node), 40)}"
    )


def _bound(node: ast.expr | None) -> int | None:
    found = None if node is None else _literal(node)
    if found is None or isinstance(found, int):
        return found
    raise UsageError("the bounds of a slice are whole numbers")


def _literal(node: ast.expr) -> object:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _literal(node.operand)
        return -inner if isinstance(inner, int) else float("nan")
    return node.value if isinstance(node, ast.Constant) else float("nan")
