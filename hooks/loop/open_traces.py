"""Which traces a ``generate()`` belongs to: those that are open in its own context.

A trace is open in the context (:mod:`contextvars`) that entered its block: in that thread or task, and in
contexts copied from it (``asyncio`` tasks, ``asyncio.to_thread``). A thread that is started inside the block
by :class:`threading.Thread` inherits it; Python itself does that only from 3.14 on. A request in another
thread does not, though it generates with the same model at the same time.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any


class Membership:
    """A trace as contexts have it: its block is left in all of them at once, and none keeps it then.

    Args:
        trace: the trace.

    Attributes:
        trace: the trace; None when its block has been left.
    """

    def __init__(self, trace: Any) -> None:
        self.trace: Any | None = trace


_open: ContextVar[tuple[Membership, ...]] = ContextVar("open_traces", default=())
_lock = threading.Lock()
_members: set[Membership] = set()
_installed: Any = None
_below: Any = None


def enter(membership: Membership) -> None:
    """The block of a trace is entered in this context.

    Args:
        membership: of the trace; :func:`leave` takes it, also where this was interrupted.
    """
    global _installed, _below
    with _lock:
        if not _members:
            _below = threading.Thread.start
            _installed = _inheriting(_below)
            threading.Thread.start = _installed  # type: ignore[method-assign]
        _members.add(membership)
    _open.set((*_memberships(), membership))


def leave(membership: Membership) -> None:
    """The block of a trace is left, in whatever context; safe to call twice.

    Args:
        membership: what :func:`enter` was called with.
    """
    membership.trace = None
    _open.set(_memberships())
    with _lock:
        _members.discard(membership)
        # Where somebody else has put something over it meanwhile, ours stays below and passes on.
        if not _members and threading.Thread.start is _installed:
            threading.Thread.start = _below  # type: ignore[method-assign]


def current() -> tuple[Any, ...]:
    """The traces that are open in this context, outermost first."""
    return tuple(each.trace for each in _open.get() if each.trace is not None)


def _memberships() -> tuple[Membership, ...]:
    return tuple(each for each in _open.get() if each.trace is not None)


def _inheriting(original: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    """``Thread.start`` while traces are open: the new thread inherits those of this context."""

    @functools.wraps(original)
    def start(thread: threading.Thread) -> None:
        inherited = _memberships()
        if not inherited:
            original(thread)
            return
        own, run = vars(thread).get("run"), thread.run

        def run_inheriting() -> None:
            _take_back(thread, own)
            _open.set(inherited)
            run()

        thread.run = run_inheriting  # type: ignore[method-assign]
        try:
            original(thread)
        except BaseException:
            _take_back(thread, own)
            raise

    return start


def _take_back(thread: threading.Thread, own: Any) -> None:
    if own is None:
        vars(thread).pop("run", None)
    else:
        vars(thread)["run"] = own
