"""The state of the terminal, put back when a signal ends a command that has changed it."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

_SHOW_CURSOR = b"\x1b[?25h"


class TerminalState:
    """Remembers how the terminal was set: a prompt makes it raw, a progress line hides its cursor."""

    def __init__(self) -> None:
        self._attributes: list[Any] | None = None
        with contextlib.suppress(ImportError, OSError, ValueError):
            import termios

            with contextlib.suppress(termios.error):
                self._attributes = termios.tcgetattr(0)

    def restore(self) -> None:
        """Put it back. In the background, where that would stop the process, nothing is changed."""
        if self._attributes is not None and not _is_in_background():
            import termios

            with contextlib.suppress(termios.error):
                termios.tcsetattr(0, termios.TCSADRAIN, self._attributes)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                if stream.isatty():
                    os.write(stream.fileno(), _SHOW_CURSOR)


def _is_in_background() -> bool:
    """Whether another job has the terminal; only one that controls this process can have jobs."""
    try:
        return os.tcgetpgrp(0) != os.getpgrp()
    except OSError:
        return False
