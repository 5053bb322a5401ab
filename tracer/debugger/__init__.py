"""Halt a traced run at its stops in an attached debugger, in the library's own lines.

Only this package knows debugpy and its engine pydevd. Line breakpoints are set in pydevd from inside the
process, so that the user need not set any; each checks whether the plan halts at its line in this step.

The names are imported when they are first used: an address can be checked without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import tracer.own_packages  # noqa: F401 - says which file is in the way
from tracer.debugger.address import DEFAULT_PORT, LOOPBACK

if TYPE_CHECKING:
    from tracer.debugger.attached import AttachedDebugger
    from tracer.debugger.listening import attach

_HOMES = {"AttachedDebugger": "tracer.debugger.attached", "attach": "tracer.debugger.listening"}

__all__ = ["DEFAULT_PORT", "LOOPBACK", "AttachedDebugger", "attach"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
