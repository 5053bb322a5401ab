"""A sign of life on the terminal, before click and rich are imported, let alone torch."""

from __future__ import annotations

import os

_QUIET = {"-q", "--quiet", "--json"}
_QUICK = {"-h", "--help", "--version"}
_SLOW = ("run", "compare")


class StartingLine:
    """The word "starting" on the terminal, until something else is printed there."""

    def __init__(self) -> None:
        self._shown_on: int | None = None

    def show(self, arguments: list[str]) -> None:
        """Show it, if there is a terminal and the command is one that takes a while.

        Args:
            arguments: of the command line.
        """
        if not _takes_a_while(arguments) or os.environ.get("TERM") == "dumb":
            return
        self._shown_on = next((number for number in (2, 1) if os.isatty(number)), None)
        self._write("starting …")

    def clear(self) -> None:
        """Remove it; safe to call twice."""
        self._write("\r\x1b[K")
        self._shown_on = None

    def _write(self, text: str) -> None:
        if self._shown_on is not None:
            try:
                os.write(self._shown_on, text.encode())
            except OSError:  # the terminal is gone
                self._shown_on = None


def _takes_a_while(arguments: list[str]) -> bool:
    if not arguments or _QUIET & {*arguments}:
        return False
    first = next((argument for argument in arguments if argument != "--debug"), "")
    return first in _SLOW or (first.startswith("-") and first not in _QUICK)
