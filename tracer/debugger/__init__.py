"""Halt a traced run at its stops in an attached debugger, in the library's own lines.

Only this package knows debugpy and its engine pydevd. Line breakpoints are set in pydevd from inside the
process, so that the user need not set any; each checks whether the plan halts at its line in this step.
"""

from __future__ import annotations

import tracer.own_packages  # noqa: F401 - says which file is in the way
from tracer.debugger.attached import AttachedDebugger
from tracer.debugger.listening import DEFAULT_PORT, LOOPBACK, attach

__all__ = ["DEFAULT_PORT", "LOOPBACK", "AttachedDebugger", "attach"]
