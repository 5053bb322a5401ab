"""Requests that say where the journey halts."""

from __future__ import annotations

from typing import Any

from tracer.replay.breaks.binding import Bound, Wanted, nearest_stop
from tracer.replay.breaks.breakpoint import Breakpoint, Met
from tracer.replay.breaks.findings import KINDS
from tracer.replay.breaks.rules import BreakRules
from tracer.replay.dap.arguments import SetBreakpoints, SetExceptionBreakpoints, SourceName
from tracer.replay.dap.client import Client
from tracer.replay.dap.inspection import Inspector, source_record
from tracer.replay.dap.requests import Handler, Handlers
from tracer.replay.moment import Moment
from tracer.replay.stack.sources import Source, Sources
from tracer.replay.travel import Travel
from tracer.schema.run import StopName


class BreakRequests:
    """Sets breakpoints and filters, and prints log points.

    Args:
        travel: the journey.
        sources: source files of the run.
        inspector: evaluates the expressions of log messages.
        client: where they are printed.

    Attributes:
        rules: what halts the journey.
    """

    def __init__(self, travel: Travel, sources: Sources, inspector: Inspector, client: Client) -> None:
        self.rules = BreakRules(sources, travel.timeline, self._log)
        self._travel = travel
        self._sources = sources
        self._inspector = inspector
        self._client = client

    def handlers(self) -> Handlers:
        """Who answers the requests that set breakpoints; filters are part of the handshake."""
        return {"setBreakpoints": Handler(SetBreakpoints, self.set_breakpoints)}

    def set_breakpoints(self, asked: SetBreakpoints) -> dict[str, Any]:
        """Replace the breakpoints of a file."""
        source = self.source_of(asked.source)
        first = self._inspector.first_line
        wanted = [
            Wanted(
                each.line + 1 - first,
                each.condition or "",
                each.hit_condition or "",
                each.log_message or "",
            )
            for each in asked.breakpoints
        ]
        key = source.file if source is not None else asked.source.path or ""
        bound = self.rules.set_breakpoints(key, source, wanted)
        return {"breakpoints": [self._record(number, each, source) for number, each in bound]}

    def set_exception_breakpoints(self, asked: SetExceptionBreakpoints) -> dict[str, Any]:
        """Replace the filters; a client may ask for those that it knows from other debuggers."""
        names = [*asked.filters, *(each.filter_id for each in asked.filter_options)]
        self.rules.set_findings(names)
        return {"breakpoints": [_filter_record(name) for name in names]}

    def source_of(self, named: SourceName) -> Source | None:
        """The file that a client means; None if no stop is in it."""
        if named.source_reference:
            return self._sources.numbered(named.source_reference)
        return self._sources.at(named.path) if named.path else None

    def nearest_stop(self, line: int, source: Source | None) -> tuple[int, StopName]:
        """Line and name of the stop nearest to a line.

        Raises:
            UsageError: the file holds no stop.
        """
        return nearest_stop(line, source, self._sources, self._travel.timeline.stops)

    def _record(self, number: int, bound: Bound, source: Source | None) -> dict[str, Any]:
        record: dict[str, Any] = {
            "id": number,
            "verified": bound.breakpoint is not None,
            "line": bound.line - 1 + self._inspector.first_line,
        }
        if source is not None:
            record["source"] = source_record(source)
        return record | ({"message": bound.message} if bound.message else {})

    def _log(self, point: Breakpoint, moment: Moment, met: Met) -> None:
        row = self._inspector.row if met.row is None else met.row
        self._client.output(point.message(lambda text: self._inspector.log_text(moment, row, text)), "stdout")


def _filter_record(name: str) -> dict[str, Any]:
    if name in KINDS:
        return {"verified": True}
    return {"verified": False, "message": f"there is no filter {name!r}; there are {', '.join(KINDS)}"}
