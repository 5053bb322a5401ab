"""Halt a traced run at its stops in an attached debugger, in the library's own lines.

Everything that knows debugpy and its engine pydevd is here. Line breakpoints are put into pydevd from inside
the process, so that nobody has to set one; each asks the plan whether its line is a stop of this step.
"""

from __future__ import annotations

import tracer.own_packages  # noqa: F401 - says which file is in the way
from tracer.debugger.attached import AttachedDebugger
from tracer.debugger.listening import DEFAULT_PORT, LOOPBACK, attach

__all__ = ["DEFAULT_PORT", "LOOPBACK", "AttachedDebugger", "attach"]
