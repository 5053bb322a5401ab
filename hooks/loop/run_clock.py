"""The clock of a run, which stands still while the run is halted."""

from __future__ import annotations

import time
from collections.abc import Callable


class RunClock:
    """Seconds of a run; the time that a person takes at a halt is not the generation's.

    As a context it stands still: whoever halts the run enters it for as long as the halt lasts.

    Args:
        on_halt: called when a halt begins.

    Attributes:
        halted: seconds for which it stood still.
    """

    def __init__(self, on_halt: Callable[[], None]) -> None:
        self._on_halt = on_halt
        self.halted = 0.0
        self._since = 0.0
        self._depth = 0

    def now(self) -> float:
        """Seconds on a scale of its own; only differences mean something."""
        return time.perf_counter() - self.halted

    def __enter__(self) -> None:
        if not self._depth:
            self._since = time.perf_counter()
            self._on_halt()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self.halted += time.perf_counter() - self._since
