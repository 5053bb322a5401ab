"""Breakpoints, their conditions and counts, and findings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.models import SAMPLING
from tests.support.walkthrough import SCORES
from tests.tracer.replay.recordings import recorded
from tests.tracer.tracefile.samples import header, some_tokens, steps
from tracer.errors import UsageError
from tracer.replay.breaks.binding import Wanted, bind
from tracer.replay.breaks.breakpoint import Breakpoint, Met
from tracer.replay.breaks.hit_condition import HitCondition
from tracer.replay.breaks.rules import BreakRules
from tracer.replay.moment import Moment
from tracer.replay.stack.sources import Sources
from tracer.replay.timeline import Position, passed_stops
from tracer.replay.travel import Travel
from tracer.schema.changes import Intervention
from tracer.schema.checks import Check, Violation
from tracer.schema.run import RunHeader, StopName
from tracer.schema.step import Step
from tracer.tracefile import TraceFile, TraceWriter


class Breaks:
    """A journey through a recording of six steps with breakpoints."""

    def __init__(self) -> None:
        self.travel = recorded(2, (), tokens=6, **SAMPLING).travel()
        self.sources = Sources(self.travel.moment.header)
        self.logged: list[tuple[str, Position]] = []
        self.rules = BreakRules(self.sources, self.travel.timeline, self.log)

    def log(self, point: Breakpoint, moment: Moment, met: Met) -> None:
        self.logged.append((point.message(str.upper), moment.position))

    def line(self, stop: StopName) -> int:
        anchor = self.travel.moment.header.anchor(stop)
        assert anchor is not None
        return anchor.line

    def set(self, stop: StopName, **more: str) -> tuple[bool, str]:
        source = self.sources.of(stop)
        wanted = Wanted(self.line(stop), **more)
        ((_, bound),) = self.rules.set_breakpoints("file", source, [wanted])
        return bound.breakpoint is not None, bound.message

    def passed(self, *, back: bool = False) -> list[int]:
        """The steps in which a run from one end to the other halts."""
        self.travel.go(self.travel.timeline.last if back else self.travel.timeline.first)
        found = []
        while (halt := self.travel.run(self.rules, back=back)).reason not in ("end", "beginning"):
            found.append(self.travel.position.step)
            assert halt.reason == "breakpoint"
        return found


def line_of(header: RunHeader, stop: StopName) -> int:
    anchor = header.anchor(stop)
    assert anchor is not None
    return anchor.line


@pytest.fixture
def breaks() -> Breaks:
    return Breaks()


def test_a_breakpoint_halts_in_every_step(breaks: Breaks) -> None:
    assert breaks.set("choice") == (True, "")
    assert breaks.passed() == [1, 2, 3, 4, 5, 6]
    assert breaks.passed(back=True) == [6, 5, 4, 3, 2, 1]


def test_its_condition_is_of_the_language(breaks: Breaks) -> None:
    assert breaks.set("choice", condition="step in (2, 5)") == (True, "")
    assert breaks.passed() == [2, 5]
    assert breaks.passed(back=True) == [5, 2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", [3]),
        ("== 3", [3]),
        (">= 5", [5, 6]),
        ("% 2", [2, 4, 6]),
        ("%4", [4]),
        ("% 3 == 1", [1, 4]),
        ("hits < 3 and not prefill", [2]),
        ("!= 1 ", [2, 3, 4, 5, 6]),
    ],
)
def test_hits_are_counted_from_the_beginning_either_way(
    breaks: Breaks, text: str, expected: list[int]
) -> None:
    assert breaks.set("append", hit_condition=text) == (True, "")
    assert breaks.passed() == expected
    assert breaks.passed(back=True) == expected[::-1]


def test_only_steps_in_which_the_condition_holds_are_counted(breaks: Breaks) -> None:
    assert breaks.set("append", condition="step % 2 == 0", hit_condition="2") == (True, "")
    assert breaks.passed(back=True) == [4]
    assert breaks.passed() == [4]


def test_a_condition_that_is_none_is_said(breaks: Breaks) -> None:
    for more in ({"condition": "p_chosn < 1"}, {"hit_condition": "> many"}, {"condition": "import os"}):
        verified, message = breaks.set("choice", **more)
        assert not verified
        assert "\n" not in message
        assert message
    assert breaks.passed() == []


def test_a_line_without_a_stop_is_moved_to_the_nearest(breaks: Breaks) -> None:
    source, timeline = breaks.sources.of("choice"), breaks.travel.timeline
    line = breaks.line("append")
    assert source is not None
    lines = [anchor.line for anchor in source.anchors]
    for wanted in (line - 1, line + 1):
        bound = bind(1, Wanted(wanted), source, breaks.sources, timeline)
        assert bound.line == line
        assert bound.message == f"moved to line {line}, stop 9 append"
    assert bind(1, Wanted(1), source, breaks.sources, timeline).line == min(lines)
    assert bind(1, Wanted(10**6), source, breaks.sources, timeline).line == max(lines)


def test_a_greedy_run_has_no_breakpoint_where_it_does_not_pass() -> None:
    travel = recorded(do_sample=False).travel()
    header = travel.moment.header
    sources, anchor = Sources(header), header.anchor(SCORES if SCORES == "warpers" else "softmax")
    assert anchor is not None
    bound = bind(1, Wanted(anchor.line), sources.of(anchor.stop), sources, travel.timeline)
    assert bound.line != anchor.line
    near = min(passed_stops(header), key=lambda stop: abs(line_of(header, stop) - anchor.line))
    assert bound.line == line_of(header, near)
    assert f"stop {header.number(near)} " in bound.message


def test_a_file_without_stops_says_where_they_are(breaks: Breaks) -> None:
    bound = bind(1, Wanted(3), None, breaks.sources, breaks.travel.timeline)
    first = breaks.travel.moment.header.anchor("model-call", "prefill")
    assert first is not None
    assert bound.breakpoint is None
    assert f"transformers/generation/utils.py:{first.line}/" in bound.message
    bare = Sources(breaks.travel.moment.header.model_copy(update={"anchors": ()}))
    assert "does not say" in bind(1, Wanted(3), None, bare, breaks.travel.timeline).message


def test_a_log_point_prints_and_goes_on(breaks: Breaks) -> None:
    breaks.set("choice", log="chose {token}: {p_chosen}", condition="step > 4")
    assert breaks.passed() == []
    assert breaks.logged == [
        ("chose TOKEN: P_CHOSEN", Position(5, "choice")),
        ("chose TOKEN: P_CHOSEN", Position(6, "choice")),
    ]


def test_a_halt_names_the_row_and_the_values(breaks: Breaks) -> None:
    breaks.set("choice", condition="row == 1 and step == 3")
    halt = breaks.travel.run(breaks.rules, back=False)
    assert (halt.row, halt.breakpoints) == (1, (1,))
    assert "holds in step 3, row 1" in halt.text


def test_a_step_onto_a_breakpoint_is_one_to_it(breaks: Breaks) -> None:
    breaks.set("forward-result")
    assert breaks.travel.stop_by_stop(breaks.rules, back=False).reason == "breakpoint"
    assert breaks.travel.stop_by_stop(breaks.rules, back=False).reason == "step"
    assert breaks.travel.stop_by_stop(breaks.rules, back=True).reason == "breakpoint"


def test_nothing_is_read_where_nothing_can_halt(breaks: Breaks, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("a step was read")

    breaks.set("forward-result")
    breaks.travel.position = breaks.travel.timeline.at(6, "next-logits")
    monkeypatch.setattr(Moment, "step", property(read))
    assert breaks.travel.run(breaks.rules, back=False).reason == "end"


def test_hit_conditions_are_checked_when_they_are_set() -> None:
    with pytest.raises(UsageError, match="unknown name hit "):
        HitCondition("hit > 2")


def found_steps() -> list[Step]:
    """A violation, the same again, values that are not finite, an intervention."""
    one, again, nan, changed = steps(4)
    violation = Violation(check="cache", message="slot 3 changed", row=0, layer=1)
    failed = Check.made("cache", holds=False, checked=1, total=1)
    infinite = Violation(check="finite", message="inf in model.norm")
    force = Intervention(kind="force", detail='" word11" (11)')
    changes: list[dict[str, Any]] = [
        {"violations": (violation,), "checks": (failed,)},
        {"checks": (failed,)},
        {"violations": (infinite,)},
        {"interventions": (force,)},
    ]
    found = zip((one, again, nan, changed), changes, strict=True)
    return [replace(step, head=step.head.model_copy(update=change)) for step, change in found]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (
            ["check failed", "not finite"],
            [
                (Position(1, "update"), "check failed", 0),
                (Position(2, "update"), "check failed", None),
                (Position(3, "forward-result"), "not finite", None),
            ],
        ),
        (["intervention"], [(Position(4, "choice"), "intervention", None)]),
        (
            ["check failed"],
            [
                (Position(1, "update"), "check failed", 0),
                (Position(2, "update"), "check failed", None),
                (Position(3, "forward-result"), "check failed", None),
            ],
        ),
        ([], []),
    ],
    ids=str,
)
def test_findings_halt_at_their_stops(
    tmp_path: Path, kinds: list[str], expected: list[tuple[Position, str, int | None]]
) -> None:
    path = tmp_path / "run.trace"
    with TraceWriter(path) as writer:
        writer.begin_run(header())
        for step in found_steps():
            writer.write_step(step, some_tokens())
    with TraceFile(path) as recording:
        travel = Travel(recording.run())
        rules = BreakRules(Sources(recording.header), travel.timeline, lambda *_: None)
        rules.set_findings(kinds)
        halts = []
        while (halt := travel.run(rules, back=False)).reason == "exception":
            halts.append((travel.position, halt.finding, halt.row))
            assert halt.text
        assert halts == expected
        rules.set_findings(["all", "raised"])  # those of other debuggers
        travel.begin()
        assert travel.run(rules, back=False).reason == "end"
