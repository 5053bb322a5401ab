"""Sources of the stepper's command lines: a user at a terminal, or a script through a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.text import Text

from tracer.stepper.prompt import ask

Complete = Callable[[str], Iterable[str]]
"""Maps the text before the cursor to whole lines that complete it."""


class Lines(Protocol):
    """A source of commands."""

    def read(self, prompt: str, complete: Complete) -> str | None:
        """The next line.

        Args:
            prompt: the prompt to show.
            complete: completes a line.

        Returns:
            The line, None at the end of input.

        Raises:
            KeyboardInterrupt: on Ctrl-C.
        """


class PipeLines:
    """Plain lines of a stream; each is printed, so that the output reads like a session.

    Args:
        stream: where lines come from.
        console: where they are echoed.
    """

    def __init__(self, stream: TextIO, console: Console) -> None:
        self._stream = stream
        self._console = console

    def read(self, prompt: str, complete: Complete) -> str | None:
        """Read the next line of the stream and echo it."""
        line = self._stream.readline()
        shown = line.rstrip("\n") if line else "(end of input)"
        self._console.print(Text(f"{prompt}{shown}"))
        return line or None


class TerminalLines:
    """Lines that a user types, with history and completion.

    Args:
        history: file that keeps the lines for later runs; None to keep them for this run only.
    """

    def __init__(self, history: Path | None) -> None:
        self._path = history
        self._session: Any = None

    def read(self, prompt: str, complete: Complete) -> str | None:
        """Show the prompt and read a line."""
        session = self._session = self._session or self._open()
        try:
            return ask(session, prompt, completer=_completer(complete))
        except EOFError:
            return None

    def _open(self) -> Any:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import FileHistory, History, InMemoryHistory

        history: History = InMemoryHistory()
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.touch()
                history = FileHistory(str(self._path))
            except OSError:  # the home folder cannot be written to
                pass
        return PromptSession(history=history, complete_while_typing=False)


def open_lines(console: Console) -> Lines:
    """The source of lines: the terminal if input and output are one, else plain lines of standard input.

    Args:
        console: where output goes.
    """
    if not (sys.stdin.isatty() and console.is_terminal):
        return PipeLines(sys.stdin, console)
    import platformdirs

    return TerminalLines(platformdirs.user_state_path("trace-generate") / "stepper-history")


def _completer(complete: Complete) -> Any:
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

    class _Words(Completer):
        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
            before = document.text_before_cursor
            for text in complete(before):
                yield Completion(text, start_position=-len(before), display=text.split()[-1])

    return _Words()
