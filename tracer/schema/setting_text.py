"""Settings as text: how records store those of processors, stopping criteria and generation configs.

A setting is stored as ``str(value)`` of a bool, number or text, or of a list, tuple or set of them, and a
function or any other object by its name, since its own text may hold an address. Settings
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
        value: a bool, number or text, a list, tuple, set or dict of them, or a function.
    """
    return str(_plain(value))[:MAX_SETTING]


def _plain(value: Any) -> Any:
    """The value with every function and object in it replaced by its name."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [_plain(item) for item in value]
        return items if isinstance(value, list) else type(value)(items) if type(value) in _PLAIN else items
    return _Name(value)


_PLAIN = (tuple, set, frozenset)


class _Name:
    """Stands for an object; its text is the object's name, or that of its class."""

    def __init__(self, value: Any) -> None:
        function = getattr(value, "func", value)  # functools.partial
        named = function if hasattr(function, "__qualname__") else type(value)
        self._text = f"{named.__module__}.{named.__qualname__}"

    def __repr__(self) -> str:
        return self._text


def parse_config_value(text: str) -> Any:
    """A setting of a generation config as a value; what is no literal of Python is a text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
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
        ValueError: it is none, too large, or was cut.
        TypeError: it is a literal of another kind.
        SyntaxError: it is no literal of Python.
    """
    return _integer(ast.literal_eval(_whole(text)))


def parse_integers(text: str) -> tuple[int, ...]:
    """A processor's setting as integers; a single one counts as a list of one.

    Raises:
        ValueError: they are none, or the text was cut.
        TypeError: it is a literal of another kind.
        SyntaxError: it is no literal of Python.
    """
    value = ast.literal_eval(_whole(text))
    return tuple(map(_integer, value if isinstance(value, list | tuple | set) else (value,)))


def _integer(value: Any) -> int:
    """A value as an integer of at most 64 bits."""
    number = int(value)
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError("an integer is too large")
    return number


def _whole(text: str) -> str:
    if len(text) >= MAX_SETTING:
        raise ValueError("the text of the setting was cut")
    return text
