"""Signals that ask the program to end: one line, an exit code of its own, and nothing left half done.

Imports next to nothing: it is in place before anything that takes time is imported.
"""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

# Importing `typing` takes as long as everything else here together.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):
    _WORDS[signal.SIGHUP] = "the terminal was closed"

_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)


class Stopped(KeyboardInterrupt):
    """A signal asks the program to end.

    Args:
        number: the signal.

    Attributes:
        exit_code: exit code of the command line.
    """

    def __init__(self, number: int) -> None:
        super().__init__(_WORDS[signal.Signals(number)])
        self.exit_code = 128 + number


class LeftRun(KeyboardInterrupt):
    """The user leaves a run where it stands, to go on another way.

    Args:
        why: for the run's end record.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)


class Interrupts:
    """Turns signals into an exception, while the context is open.

    :class:`Stopped` is raised wherever the program happens to be; some libraries swallow every exception
    while they import others, so a signal is remembered until :meth:`check` has raised it again.

    Args:
        at_once: until :meth:`raise_them`, end the process with one line instead: nothing has been begun, and
            an exception in the middle of an import would end in a traceback.

    Attributes:
        last: the last signal that has arrived; what catches an exception may raise another in its place.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self._pending: Stopped | None = None
        self._before: dict[int, Any] = {}
        self._at_once = at_once
        self._begun = False
        self.last: Stopped | None = None

    def __enter__(self) -> Interrupts:
        for number in _WORDS:
            # A program that ignores one (`nohup`, a job in the background) or has its own handler keeps it.
            if signal.getsignal(number) in _DEFAULTS:
                try:
                    self._before[number] = signal.signal(number, self._arrived)
                except ValueError:  # another thread than the main one
                    break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def raise_them(self) -> None:
        """From now on a signal raises :class:`Stopped`, unless something is being imported."""
        self._at_once = False

    def begin(self) -> None:
        """Something begins that has to be closed: from now on a signal raises in imports too."""
        self._begun = True

    def end_at_once(self) -> None:
        """From now on, and after the context too, a signal ends the process: the command is over."""
        self._at_once = True
        self._before.clear()

    def check(self) -> None:
        """Raise a signal that was swallowed.

        Raises:
            Stopped: there was one.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            raise pending

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        stopped = Stopped(number)
        # Some libraries print what comes up while they are imported, and raise an error of their own.
        if self._at_once or (not self._begun and _imports(frame)):
            try:
                # The line of the progress display is cleared, and the cursor that it hides shown.
                start_of_line = "\r\x1b[K\x1b[?25h" if os.isatty(2) else ""
                os.write(2, f"{start_of_line}trace-generate: {stopped}\n".encode())
            finally:
                os._exit(stopped.exit_code)
        self._pending = self.last = stopped
        raise stopped


def _imports(frame: FrameType | None) -> bool:
    """Whether an import is in progress in a frame."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
