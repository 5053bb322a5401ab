"""Whose fault an exception is that is raised while our code runs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import CodeType
from typing import Any


def is_ours(error: BaseException) -> bool:
    """Whether an exception that came up in our code is a fault of that code.

    Python runs signal handlers between any two instructions of the main thread. What one of them raises (a
    timeout by ``SIGALRM``) belongs to the program, though it comes up in the middle of ours; its traceback
    goes through the handler.

    Args:
        error: the exception, as it was caught.
    """
    if not isinstance(error, Exception):
        return False
    handlers = {code for handler in _handlers() for code in _codes(handler)}
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in handlers:
            return False
        traceback = traceback.tb_next
    return True


def _handlers() -> Iterator[Any]:
    for number in signal.valid_signals():
        try:
            handler = signal.getsignal(number)
        except ValueError:
            continue
        if callable(handler):
            yield handler


def _codes(handler: Any) -> Iterator[CodeType]:
    """Code that runs when a handler is called: a function's, a method's, a partial's or an object's."""
    function = getattr(handler, "func", handler)  # functools.partial
    for candidate in (function, vars(type(function)).get("__call__")):
        code = getattr(candidate, "__code__", None)
        if isinstance(code, CodeType):
            yield code
