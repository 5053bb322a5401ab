"""Whose fault an exception is that is raised while our code runs."""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Callable, Iterator
from traceback import walk_tb
from types import CodeType, FrameType
from typing import Any


def is_ours(error: BaseException) -> bool:
    """Whether an exception that came up in our code is a fault of that code.

    Python runs signal handlers between any two instructions of the main thread. What one of them raises (a
    timeout by ``SIGALRM``) belongs to the program, though it comes up in the middle of ours; its traceback
    goes through the handler. So does what another thread raises in this one.

    Args:
        error: the exception, as it was caught.
    """
    if not isinstance(error, Exception):
        return False
    remember_handlers()
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    if any(frame.f_code in _codes_of_handlers for frame in frames):
        return False
    return not frames or not _came_from_another_thread(error, frames[-1])


def _came_from_another_thread(error: Exception, innermost: FrameType) -> bool:
    """Whether an exception was raised in this thread by another one, as timeouts without signals do.

    Nothing tells so but its class: code of ours, or of a library that we call, raises none of the program's.
    """
    if _package(innermost.f_globals.get("__name__")) not in _LIBRARIES:
        return False
    return isinstance(error, TimeoutError) or _package(type(error).__module__) not in _LIBRARIES


def _package(module: object) -> str:
    return str(module).partition(".")[0]


_LIBRARIES = frozenset(
    {"hooks", "tracer", "torch", "numpy", "transformers", "pydantic", "pydantic_core", "tokenizers"}
).union(sys.stdlib_module_names)


def surely(*actions: Callable[[], None]) -> None:
    """Do what has to be done whatever is raised meanwhile, by a signal handler or by an action.

    Args:
        actions: each may be done twice, since one that was interrupted is done again from its beginning.

    Raises:
        BaseException: the first exception, after all actions.
    """
    left, raised = [*actions], list[BaseException]()
    try:
        _do(left, raised)
    except BaseException as error:  # noqa: BLE001 - raised below; it came between two actions
        raised.append(error)
        _do(left, raised)
    if raised:
        raise raised[0]


_TRIES = 3


def _do(left: list[Callable[[], None]], raised: list[BaseException]) -> None:
    while left:
        for _ in range(_TRIES):
            try:
                left[0]()
                break
            except BaseException as error:  # noqa: BLE001 - the caller raises it
                raised.append(error)
        left.pop(0)


_codes_of_handlers: set[CodeType] = set()


def remember_handlers() -> None:
    """Remember the signal handlers of now: one may uninstall itself before it raises."""
    _codes_of_handlers.update(code for handler in _handlers() for code in _codes(handler))


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
    for candidate in (function, inspect.getattr_static(type(function), "__call__", None)):
        code = getattr(candidate, "__code__", None)
        if isinstance(code, CodeType):
            yield code
