"""Durations are the generation's own: a halt counts apart."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hooks.loop.run_clock import RunClock
from tests.support.models import batch, tiny_model
from tracer import open_trace, trace

PAUSE = 0.05


def test_it_stands_still_in_its_context(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 20.0, 25.0, 30.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    halts: list[bool] = []
    clock = RunClock(lambda: halts.append(True))
    before = clock.now()
    with clock, clock:
        pass
    assert (clock.halted, clock.now() - before) == (5.0, 15.0)
    assert halts == [True]


@pytest.mark.parametrize("stop", ["model-call", "choice", "stopping"])
def test_halts_are_in_no_duration(tmp_path: Path, stop: str) -> None:
    halts = []

    def wait(halt: object) -> None:
        halts.append(halt)
        time.sleep(PAUSE)

    model = tiny_model()
    began = time.perf_counter()
    with trace(model, path=tmp_path / "t", on_stop=wait, stops=stop):
        model.generate(**batch(), max_new_tokens=4, eos_token_id=None)
    wall = time.perf_counter() - began
    with open_trace(tmp_path / "t") as recording:
        end, steps = recording.end, [step.head for step in recording.steps]
    assert end is not None
    assert len(halts) == 2
    assert end.halted_seconds >= 2 * PAUSE
    assert end.seconds + end.halted_seconds <= wall
    assert sum(step.seconds for step in steps) <= end.seconds
    assert all(0 <= step.forward_seconds <= step.seconds for step in steps)
    assert [step.started for step in steps] == sorted(step.started for step in steps)
