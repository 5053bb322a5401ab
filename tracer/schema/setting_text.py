"""Settings as text: how records store those of processors, stopping criteria and generation configs.

A setting is stored as ``str(value)`` of a bool, number or text, or of a list, tuple or set of them. Settings
of processors and criteria are cut to :data:`MAX_SETTING` characters, so one of this length may lack its end.
Nothing but this module reads such a text back.
"""

from __future__ import annotations

import ast
from typing import Any

MAX_SETTING = 200
"""Longest text of a setting of a processor or criterion, in characters."""


def setting_text(value: Any) -> str:
    """A setting of a processor or criterion as a record stores it.

    Args:
        value: a bool, number or text, or a list, tuple or set of them.
    """
    return str(value)[:MAX_SETTING]


def parse_config_value(text: str) -> Any:
    """A setting of a generation config as a value; what is no literal of Python is a text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def parse_number(text: str) -> float:
    """A processor's setting as a number; ``inf`` and ``nan`` are numbers too.

    Raises:
        ValueError: it is none, or was cut.
    """
    return float(_whole(text))


def parse_integer(text: str) -> int:
    """A processor's setting as an integer.

    Raises:
        ValueError: it is none, or was cut.
        TypeError: it is a literal of another kind.
        SyntaxError: it is no literal of Python.
    """
    return int(ast.literal_eval(_whole(text)))


def parse_integers(text: str) -> tuple[int, ...]:
    """A processor's setting as integers; a single one counts as a list of one.

    Raises:
        ValueError: they are none, or the text was cut.
        TypeError: it is a literal of another kind.
        SyntaxError: it is no literal of Python.
    """
    value = ast.literal_eval(_whole(text))
    return tuple(int(item) for item in (value if isinstance(value, list | tuple | set) else (value,)))


def _whole(text: str) -> str:
    if len(text) >= MAX_SETTING:
        raise ValueError("the text of the setting was cut")
    return text
