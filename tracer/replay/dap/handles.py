"""The numbers by which a client names frames and values of the present halt."""

from __future__ import annotations

from dataclasses import dataclass

from tracer.errors import UsageError
from tracer.replay.stack.frames import Frame
from tracer.replay.values.value import Value


@dataclass(frozen=True)
class FrameHandle:
    """A frame of a thread.

    Attributes:
        frame: the frame.
        row: the thread's row of the batch.
    """

    frame: Frame
    row: int


@dataclass(frozen=True)
class ValueHandle:
    """A value with parts.

    Attributes:
        value: the value.
        path: an expression for it; empty if there is none.
        is_locals: whether its parts are the variables of a frame.
    """

    value: Value
    path: str = ""
    is_locals: bool = False


class Handles:
    """Frames and values that a client has seen at the present halt.

    Numbers are never used twice, so that one of an earlier halt is told from one that never was.
    """

    def __init__(self) -> None:
        self._last = 0
        self._frames: dict[int, FrameHandle] = {}
        self._values: dict[int, ValueHandle] = {}

    def clear(self) -> None:
        """Forget everything: the journey has gone on."""
        self._frames.clear()
        self._values.clear()

    def add_frame(self, frame: FrameHandle) -> int:
        """A number for a frame."""
        number = self._number()
        self._frames[number] = frame
        return number

    def add_value(self, value: Value, path: str = "") -> int:
        """A number for a value; 0 if it has no parts."""
        return self._add(ValueHandle(value, path)) if value.named or value.indexed else 0

    def add_scope(self, value: Value, *, is_locals: bool) -> int:
        """A number for a scope, also for one without parts.

        Args:
            value: its variables.
            is_locals: whether they are the variables of a frame.
        """
        return self._add(ValueHandle(value, is_locals=is_locals))

    def _add(self, handle: ValueHandle) -> int:
        number = self._number()
        self._values[number] = handle
        return number

    def frame(self, number: int) -> FrameHandle:
        """A frame by its number.

        Raises:
            UsageError: there is none.
        """
        if number not in self._frames:
            raise UsageError(f"there is no frame {number}{self._why(number)}")
        return self._frames[number]

    def value(self, number: int) -> ValueHandle:
        """A value by its number.

        Raises:
            UsageError: there is none.
        """
        if number not in self._values:
            raise UsageError(f"there is no variables reference {number}{self._why(number)}")
        return self._values[number]

    def _number(self) -> int:
        self._last += 1
        return self._last

    def _why(self, number: int) -> str:
        return "; it belongs to an earlier halt" if 0 < number <= self._last else ""
