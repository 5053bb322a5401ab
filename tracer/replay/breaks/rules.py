"""The breakpoints and findings at which a journey halts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tracer.replay.breaks.binding import Bound, Wanted, bind
from tracer.replay.breaks.breakpoint import Breakpoint, Met
from tracer.replay.breaks.findings import KINDS, finding_at
from tracer.replay.moment import Moment
from tracer.replay.stack.sources import Source, Sources
from tracer.replay.timeline import Timeline
from tracer.replay.travel import Standstill
from tracer.schema.run import StopName

Log = Callable[[Breakpoint, Moment, Met], None]
"""Prints the message of a log point."""


class BreakRules:
    """Halts at breakpoints and findings.

    Args:
        sources: source files of the run.
        timeline: its positions.
        log: prints the message of a log point.
    """

    def __init__(self, sources: Sources, timeline: Timeline, log: Log) -> None:
        self._sources = sources
        self._timeline = timeline
        self._log = log
        self._next = 1
        self._breakpoints: dict[str, list[Breakpoint]] = {}
        self._findings: frozenset[str] = frozenset()

    def set_breakpoints(
        self, key: str, source: Source | None, wanted: list[Wanted]
    ) -> list[tuple[int, Bound]]:
        """Replace the breakpoints of a file.

        Args:
            key: names the file.
            source: the file; None if no stop is in it.
            wanted: the breakpoints.

        Returns:
            Number and fate of each.
        """
        found = []
        for each in wanted:
            found.append(
                (
                    self._next,
                    bind(self._next, each, source, self._sources, self._timeline),
                )
            )
            self._next += 1
        self._breakpoints[key] = [bound.breakpoint for _, bound in found if bound.breakpoint is not None]
        return found

    def set_findings(self, names: Iterable[str]) -> None:
        """Replace the kinds of findings that halt; names of other kinds are skipped.

        Args:
            names: their names.
        """
        self._findings = frozenset(names) & frozenset(KINDS)

    def concerns(self, stop: StopName) -> bool:
        """Whether there is a breakpoint at a stop; a finding may be at any."""
        return bool(self._findings) or any(each.stop == stop for each in self._all())

    def pass_by(self, moment: Moment, timeline: Timeline) -> Standstill | None:
        """Come to a moment: print its log points, and halt at its breakpoints and findings."""
        met = [(each, found) for each in self._all() if (found := each.meet(moment, timeline)) is not None]
        for breakpoint_, found in met:
            if breakpoint_.log:
                self._log(breakpoint_, moment, found)
        halting = [(each, found) for each, found in met if not each.log]
        return _at_breakpoints(halting) if halting else self._at_finding(moment)

    def _at_finding(self, moment: Moment) -> Standstill | None:
        found = finding_at(moment, self._findings)
        if found is None:
            return None
        kind, finding = found
        return Standstill("exception", finding.text, finding.row, finding=kind)

    def _all(self) -> list[Breakpoint]:
        return [each for found in self._breakpoints.values() for each in found]


def _at_breakpoints(met: Sequence[tuple[Breakpoint, Met]]) -> Standstill:
    row = next((found.row for _, found in met if found.row is not None), None)
    text = "; ".join(found.why for _, found in met if found.why)
    return Standstill("breakpoint", text, row, tuple(each.number for each, _ in met))
