"""Where in a step an exception came up: the stop, and the module that was running."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from tracer.library.loop import FORWARD
from tracer.schema.faults import Failure
from tracer.schema.run import Anchor, StopName


def find_failure(
    error: BaseException, message: str, anchors: Sequence[Anchor], modules: Mapping[int, int]
) -> Failure:
    """Find where an exception came up, from its traceback.

    Args:
        error: what the decoding loop raised.
        message: its class and text.
        anchors: source lines of the stops.
        modules: index of each registered module by ``id``.
    """
    loop = {anchor.function for anchor in anchors} - {FORWARD}
    stop: StopName = "model-call"
    module: int | None = None
    for name, line, instance in _frames(error.__traceback__):
        if name in loop:
            stop, module = _stop_at(line, [each for each in anchors if each.function == name]), None
        else:
            module = modules.get(id(instance), module)
    if stop == "model-call" and module is not None:
        stop = "layers"
    return Failure(stop=stop, message=message, module=module)


def _frames(traceback: TracebackType | None) -> Iterator[tuple[str, int, Any]]:
    """Name, line and ``self`` of each function on the way to where it was raised, outermost first."""
    while traceback is not None:
        frame = traceback.tb_frame
        yield frame.f_code.co_name, traceback.tb_lineno, frame.f_locals.get("self")
        traceback = traceback.tb_next


def _stop_at(line: int, anchors: Sequence[Anchor]) -> StopName:
    """The last stop of the loop whose statement begins at this line or before it."""
    before = [anchor for anchor in anchors if anchor.line <= line]
    return max(before, key=lambda anchor: anchor.line).stop if before else "model-call"
