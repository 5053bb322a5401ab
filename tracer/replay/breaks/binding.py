"""Bind breakpoints by line to stops: a line without a stop is moved to the nearest that has one."""

from __future__ import annotations

from dataclasses import dataclass

from reports.view.stops.step import stop_title
from tracer.analysis.conditions.condition import parse_condition
from tracer.errors import UsageError
from tracer.replay.breaks.breakpoint import Breakpoint
from tracer.replay.breaks.hit_condition import HitCondition
from tracer.replay.stack.sources import Source, Sources
from tracer.replay.timeline import Timeline
from tracer.schema.run import StopName


@dataclass(frozen=True)
class Wanted:
    """A breakpoint as a client asks for it.

    Attributes:
        line: the line.
        condition: in the language of conditions; empty for none.
        hit_condition: see :class:`HitCondition`; empty for none.
        log: message to print in place of halting; empty to halt.
    """

    line: int
    condition: str = ""
    hit_condition: str = ""
    log: str = ""


@dataclass(frozen=True)
class Bound:
    """What became of it.

    Attributes:
        breakpoint: the breakpoint; None if there is none.
        line: the line where it is.
        message: that it was moved, or why there is none; empty where there is nothing to say.
    """

    breakpoint: Breakpoint | None
    line: int
    message: str = ""


def bind(number: int, wanted: Wanted, source: Source | None, sources: Sources, timeline: Timeline) -> Bound:
    """Bind a breakpoint to a stop.

    Args:
        number: the breakpoint's number.
        wanted: what is asked for.
        source: the file; None if no stop is in it.
        sources: all files of the run.
        timeline: the stops that the run passes.
    """
    try:
        line, stop = nearest_stop(wanted.line, source, sources, timeline.stops)
        condition = parse_condition(wanted.condition) if wanted.condition.strip() else None
        hit_condition = HitCondition(wanted.hit_condition) if wanted.hit_condition.strip() else None
    except UsageError as error:
        return Bound(None, wanted.line, str(error))
    there = f"moved to line {line}, stop {timeline.header.number(stop)} {stop_title(stop)}"
    moved = there if line != wanted.line else ""
    return Bound(Breakpoint(number, stop, condition, hit_condition, wanted.log), line, moved)


def nearest_stop(
    line: int, source: Source | None, sources: Sources, stops: tuple[StopName, ...]
) -> tuple[int, StopName]:
    """Line and name of the stop nearest to a line.

    Args:
        line: the line.
        source: its file; None if no stop is in it.
        sources: all files of the run.
        stops: the stops that the run passes.

    Raises:
        UsageError: the file holds no stop; the message says where they are.
    """
    anchors = [anchor for anchor in (source.anchors if source else ()) if anchor.stop in stops]
    if not anchors:
        places = ", ".join(
            f"{each.file}:{'/'.join(str(a.line) for a in each.anchors if a.stop in stops)}"
            for each in sources
        )
        raise UsageError(
            f"no stop of the recording is in this file; they are in {places}"
            if places
            else "the recording does not say at which lines its stops are; step through it, or go to a step"
        )
    found = min(anchors, key=lambda anchor: (abs(anchor.line - line), anchor.line))
    return found.line, found.stop
