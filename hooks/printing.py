"""Texts of objects that are not ours, which may fail to print or print what no file can hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hooks.faults import is_ours


def printed(value: object, to_text: Callable[[Any], str] = str) -> str:
    """The text of an object, its lone surrogates escaped; the class of what cannot be printed.

    Args:
        value: any object, whose class may run code of its own here.
        to_text: makes the text.
    """
    try:
        return _storable(to_text(value))
    except Exception as error:
        if not is_ours(error):
            raise
        return _storable(type(value).__name__)


def printed_error(error: BaseException) -> str:
    """Class and text of an exception; the class alone where its text cannot be printed.

    Args:
        error: the exception.
    """
    name = type(error).__name__
    try:
        return _storable(f"{name}: {error}")
    except Exception as fault:
        if not is_ours(fault):
            raise
        return _storable(name)


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
