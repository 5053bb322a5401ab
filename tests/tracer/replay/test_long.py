"""A long way back reads one step at a time, and keeps none."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from pathlib import Path

import pytest

from reports.terminal import render_card
from tests.tracer.tracefile.samples import write_trace
from tracer.replay.answers.questions import as_text
from tracer.replay.cards import cards_at
from tracer.replay.travel import NoRules, Travel
from tracer.replay.values.library import local_variables
from tracer.tracefile import TraceFile

pytestmark = pytest.mark.no_transformers

STEPS = 500


@pytest.mark.slow
@pytest.mark.parametrize("end", [True, False], ids=["complete", "cut off"])
def test_500_steps_back(tmp_path: Path, end: bool) -> None:
    path = tmp_path / "run.trace"
    write_trace(path, STEPS, end=end)
    seconds: list[float] = []
    memory: list[int] = []
    with TraceFile(path) as recording:
        travel = Travel(recording.run())
        travel.go(travel.timeline.last)
        local_variables(travel.moment, "sample")["input_ids"]()
        tracemalloc.start()
        while travel.position != travel.timeline.first:
            began = time.perf_counter()
            travel.token_by_token(NoRules(), back=True)
            cards = cards_at(travel.moment, travel.timeline.stops, 0)
            as_text(*(render_card(card) for card in cards))
            [make() for make in local_variables(travel.moment, "sample").values()]
            seconds.append(time.perf_counter() - began)
            memory.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    # A tenth of this is what it takes on two cores, without the bookkeeping of the memory.
    assert statistics.median(seconds) < 0.25
    assert max(memory[-50:]) - max(memory[:100]) < 2 << 20
