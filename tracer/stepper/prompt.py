"""A prompt on the terminal that a signal ends in order, so that it leaves the terminal as it was."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class _EndedBySignalError(Exception):
    """Ends the prompt."""


def ask(session: Any, text: str, **options: Any) -> str:
    """Read a line from a prompt.

    An exception of a signal handler in the middle of the event loop would be taken for a defect of whatever
    ran there: prompt_toolkit prints a traceback and waits for Enter. So the handler runs once the prompt has
    ended, which it does at once; if it lets the program go on, the prompt is shown again.

    Args:
        session: a ``PromptSession``.
        text: the prompt.
        options: further arguments of its ``prompt``.

    Raises:
        EOFError: at the end of input.
        KeyboardInterrupt: on Ctrl-C, and whatever else the handler of a signal raises.
    """
    while True:
        with _signals_afterwards(session.app) as end_if_arrived, contextlib.suppress(_EndedBySignalError):
            return str(session.prompt(text, pre_run=end_if_arrived, **options))


@contextlib.contextmanager
def _signals_afterwards(app: Any) -> Iterator[Callable[[], None]]:
    """End the application when a signal arrives, and raise the signal again behind it."""
    arrived: list[int] = []

    def end() -> None:
        if arrived and app.future is not None and not app.future.done():
            app.exit(exception=_EndedBySignalError)

    def note(number: int, _: FrameType | None) -> None:
        arrived.append(number)
        if app.loop is not None:
            app.loop.call_soon_threadsafe(end)

    before = _handlers()
    try:
        for number in before:
            signal.signal(number, note)
        yield end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


def _handlers() -> dict[int, Any]:
    """Handlers of the signals that end this program; none in a thread that no handler runs in."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in _ENDING}
    return {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}
