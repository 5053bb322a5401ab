"""Keep a Ctrl-C that a library swallows."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """Remembers a Ctrl-C until :meth:`check` has raised it again, while the context is open.

    Python turns it into a ``KeyboardInterrupt`` wherever the program happens to be, and some libraries
    swallow every exception while they import others.
    """

    def __init__(self) -> None:
        self._pending = False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        in_main = threading.current_thread() is threading.main_thread()
        # A program that ignores Ctrl-C (in the background) or has its own handler keeps it.
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raise a Ctrl-C that was swallowed.

        Raises:
            KeyboardInterrupt: there was one.
        """
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def _interrupted(self, _number: int, _frame: FrameType | None) -> None:
        self._pending = True
        raise KeyboardInterrupt
