"""Positions of a run, and the way between them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.support.models import GREEDY, SAMPLING
from tests.support.walkthrough import HALTS
from tests.tracer.replay.recordings import recorded
from tests.tracer.tracefile.samples import write_trace
from tracer.errors import UsageError
from tracer.replay.timeline import Position, Timeline
from tracer.tracefile import TraceFile


@pytest.fixture
def timeline() -> Timeline:
    return Timeline(recorded(**SAMPLING).open())


def test_a_sampling_run_passes_every_stop(timeline: Timeline) -> None:
    assert timeline.stops == HALTS
    assert timeline.first == Position(1, "model-call")
    assert timeline.last == Position(4, "stopping")


def test_a_greedy_run_passes_the_lines_that_ran() -> None:
    run = recorded(**GREEDY)
    stops = Timeline(run.open()).stops
    assert stops == tuple(stop for _, stop in sorted(run.frames, key=lambda at: at[0]) if _ == 1)
    assert {"warpers", "softmax"}.isdisjoint(stops)


def test_back_is_the_way_there_backwards(timeline: Timeline) -> None:
    there = [timeline.first, *timeline.onwards(timeline.first, back=False)]
    back = [timeline.last, *timeline.onwards(timeline.last, back=True)]
    assert there == back[::-1]
    assert len(there) == 4 * len(HALTS)


def test_ends(timeline: Timeline) -> None:
    assert timeline.before(timeline.first) is None
    assert timeline.after(timeline.last) is None
    assert timeline.step_before(Position(1, "append")) is None
    assert timeline.step_after(Position(4, "append")) is None


def test_tokens(timeline: Timeline) -> None:
    assert timeline.step_after(Position(2, "append")) == Position(3, "model-call")
    assert timeline.step_before(Position(2, "append")) == Position(1, "model-call")


def test_a_step_that_was_not_recorded(timeline: Timeline) -> None:
    assert timeline.at(4, "append") == Position(4, "append")
    for number in (0, 5, 99):
        with pytest.raises(UsageError, match=f"step {number} was not recorded; .* steps 1 to 4"):
            timeline.at(number)


def test_chosen_stops() -> None:
    run = recorded(**GREEDY).open()
    timeline = Timeline(run, ("choice", "warpers"))
    assert [timeline.first, timeline.after(timeline.first)] == [Position(1, "choice"), Position(2, "choice")]
    with pytest.raises(UsageError, match="A greedy run does not pass warpers; it passes model-call"):
        Timeline(run, ("warpers",))


def test_a_run_without_steps(tmp_path: Path) -> None:
    write_trace(tmp_path / "run.trace", count=0, end=False)
    with TraceFile(tmp_path / "run.trace") as recording, pytest.raises(UsageError, match="holds no step"):
        Timeline(recording.run())


def test_steps_that_are_missing_are_passed_by(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    write_trace(path, count=5, end=False)
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM step WHERE step = 3")
    with TraceFile(path) as recording:
        timeline = Timeline(recording.run())
        assert timeline.step_after(Position(2, "append")) == Position(4, "model-call")
        assert timeline.before(Position(4, "model-call")) == Position(2, "stopping")
        with pytest.raises(UsageError, match="step 3 was not recorded"):
            timeline.at(3)
