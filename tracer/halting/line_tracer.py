"""Halt exactly at given source lines, as a debugger does, by a trace function of our own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from types import CodeType, FrameType
from typing import Any

from tracer.schema.run import Anchor, StopName

OnLine = Callable[["StopName | None", FrameType], "Mapping[str, Any] | None"]
"""Called with the stop whose line is about to run (None where a step is over) and its frame; what it returns
replaces locals of the frame."""


class LineTracer:
    """Calls back before the lines of anchors run, in the thread that started it.

    Only frames of the code that holds an anchor are watched line by line; of any other, nothing but its
    call is seen. A trace function that was there before (a debugger, a coverage tool) goes on seeing what it
    would see, and is back alone after :meth:`stop`, unless yet another one has taken its place.

    Args:
        anchors: where to call back.
        on_line: the callback.
        end: path and line at which a step is over; None: the line behind the stopping criteria.
    """

    def __init__(
        self, anchors: Iterable[Anchor], on_line: OnLine, end: tuple[str, int] | None = None
    ) -> None:
        self._places: dict[str, dict[int, StopName | None]] = {}
        for anchor in anchors:
            self._places.setdefault(anchor.path, {})[anchor.line] = anchor.stop
        if end is not None:
            self._places.setdefault(end[0], {})[end[1]] = None
        self._behind_criteria = end is None
        self._on_line = on_line
        self._before: Any = None
        self._ours: Any = None
        # By identity, since a code object compares itself by its whole contents; the object is kept alive.
        self._known: dict[int, tuple[CodeType, dict[int, StopName | None]]] = {}
        self._at_end: FrameType | None = None

    def start(self) -> None:
        """Watch functions that this thread calls from now on."""
        self._before, self._ours = sys.gettrace(), self._call
        sys.settrace(self._ours)

    def stop(self) -> None:
        """Stop watching and restore the trace function from before. Stopping twice does no harm."""
        if self._ours is None:
            return
        # The interpreter itself takes a trace function away that raised.
        if sys.gettrace() in (self._ours, None):
            sys.settrace(self._before)
        self._ours = self._before = self._at_end = None

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        theirs = self._ask(frame, event, argument)
        lines = self._places.get(frame.f_code.co_filename)
        if lines is None or not self._lines_of(frame.f_code, lines):
            return theirs
        return self._line if theirs is None else self._both(theirs)

    def _ask(self, frame: FrameType, event: str, argument: Any) -> Any:
        """What the trace function from before wants to be called with in a frame."""
        if self._before is None or self._ours is None:
            return None
        theirs = self._before(frame, event, argument)
        # Some (coverage's compiled one) put themselves in place again when they are called.
        if sys.gettrace() is not self._ours:
            sys.settrace(self._ours)
        return theirs

    def _both(self, theirs: Any) -> Any:
        """A local trace function for a frame that two watch."""

        def local(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal theirs
            # As the interpreter has it: None keeps the local function that there is.
            theirs = theirs(frame, event, argument) or theirs
            if self._ours is None:  # stopped while this frame went on
                return theirs
            self._line(frame, event, argument)
            return local

        return local

    def _lines_of(self, code: CodeType, lines: Mapping[int, StopName | None]) -> dict[int, StopName | None]:
        known = self._known.get(id(code))
        if known is None:
            own = {line for _, _, line in code.co_lines()}
            known = self._known[id(code)] = code, {line: stop for line, stop in lines.items() if line in own}
        return known[1]

    def _line(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if self._ours is None:  # stopped while this frame went on
            frame.f_trace = None
            return None
        if event != "line":
            return self._line
        own = self._known[id(frame.f_code)][1]
        if frame.f_lineno not in own and self._at_end is not frame:
            return self._line
        stop = own.get(frame.f_lineno)
        self._at_end = frame if stop == "stopping" and self._behind_criteria else None
        changed = self._on_line(stop, frame)
        if changed:
            # What is written here goes into the frame when this function returns.
            frame.f_locals.update(changed)
        return self._line
