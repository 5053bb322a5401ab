"""What is missing from a step, what went wrong in recording it, and what ended the run in it."""

from __future__ import annotations

from typing import Literal

from tracer.schema.base import Record
from tracer.schema.run import StopName

ProbedCapture = Literal["lens", "attention"]
"""An optional capture that a probe of its own records."""


OptionalCapture = Literal["lens", "attention", "kv"]
"""A capture that is recorded only if it is asked for, and may not be had of every model."""


class Uncaptured(Record):
    """A capture that was asked for and is not in a step, with no fault in recording; said once a run.

    Attributes:
        capture: which.
        stop: the stop at which it belongs.
        reason: why it could not be had.
    """

    capture: OptionalCapture
    stop: StopName
    reason: str


class CaptureError(Record):
    """A fault in recording; the generation continued.

    Attributes:
        stop: the stop at which it happened.
        message: exception type and text.
        capture: the optional capture that failed; None for any other fault.
    """

    stop: StopName
    message: str
    capture: ProbedCapture | None = None


class Failure(Record):
    """An exception that ended the run in the middle of a step, which is recorded as far as it went.

    Attributes:
        stop: the stop at which it came up.
        message: class and text of the exception.
        module: index of the module that was running; None outside of all modules.
    """

    stop: StopName
    message: str
    module: int | None = None
