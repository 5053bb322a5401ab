"""The library's frames at a position, innermost first."""

from __future__ import annotations

from dataclasses import dataclass

from tracer.replay.stack.sources import Source, Sources
from tracer.replay.timeline import Position
from tracer.replay.values.library import FrameKind
from tracer.schema.run import Anchor, Phase, RunHeader, StopName


@dataclass(frozen=True)
class Frame:
    """A frame of the library.

    Attributes:
        kind: which of the two.
        name: the function.
        stop: the stop at whose line it stands.
        line: number of that line; 0 where the recording has none.
        text: the line.
        source: its file; None likewise.
    """

    kind: FrameKind
    name: str
    stop: StopName
    line: int
    text: str
    source: Source | None


def frames_at(position: Position, header: RunHeader, sources: Sources) -> tuple[Frame, ...]:
    """The frames at a position, innermost first.

    Args:
        position: the position.
        header: the run's header.
        sources: the run's source files.
    """
    if position.stop != "forward-result":
        return (_loop_frame(position.stop, position.phase, header, sources),)
    anchor = header.anchor(position.stop, position.phase)
    # The loop waits in its call of the model.
    return (
        _frame("forward", f"{header.model.class_name}.forward", position.stop, anchor, sources),
        _loop_frame("model-call", position.phase, header, sources),
    )


def _loop_frame(stop: StopName, phase: Phase, header: RunHeader, sources: Sources) -> Frame:
    """The frame of the loop, or of a function of its own in which it does a part."""
    anchor = header.anchor(stop, phase)
    return _frame("sample", (anchor and anchor.function) or header.loop, stop, anchor, sources)


def _frame(kind: FrameKind, name: str, stop: StopName, anchor: Anchor | None, sources: Sources) -> Frame:
    if anchor is None:
        return Frame(kind, name, stop, 0, "", None)
    return Frame(kind, name, stop, anchor.line, anchor.text, sources.of(stop))
