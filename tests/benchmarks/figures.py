"""What only whole traced runs show: sizes, speed of writing and reading, opening and closing."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.benchmarks.models import Inputs, Subject
from tests.benchmarks.watchers import LEVELS
from tracer import open_trace, trace
from tracer.tracefile import Recorder

_OPENINGS = 9


def opening_and_closing(subject: Subject) -> float:
    """Milliseconds that a run takes longer for opening its file and closing it, whatever its length."""
    inputs, seconds = subject.inputs(1, 30), []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(_OPENINGS):
            began = time.perf_counter()
            with trace(subject.model, path=Path(folder) / f"{number}.trace") as session:
                opened = time.perf_counter()
                subject.generate(inputs, 1)
                session.flush()
                generated = time.perf_counter()
            seconds.append(time.perf_counter() - generated + opened - began)
    return statistics.median(seconds) * 1e3


def sizes_and_speed(subject: Subject, new: int) -> dict[str, float]:
    """Bytes a step on disk per level, the queue's peak, and the time to write and read a step."""
    figures: dict[str, float] = {}
    inputs = subject.inputs(1, 30)
    with tempfile.TemporaryDirectory() as folder:
        for level, settings in LEVELS.items():
            sizes = []
            for tokens in (8, new):
                path = Path(folder) / f"{len(figures)}-{tokens}.trace"
                with trace(subject.model, path=path, **settings):
                    subject.generate(inputs, tokens)
                sizes.append(path.stat().st_size)
            figures[f"bytes a step, {level}"] = (sizes[1] - sizes[0]) / (new - 8)
        figures["steps written a second"] = _written_a_second(subject, inputs, new, Path(folder))
        with open_trace(path) as recording:
            end = recording.end
            figures["queue peak, bytes"] = float(end.queue_peak_bytes) if end else 0.0
            figures["queue waits"] = float(end.queue_waits) if end else 0.0
            began = time.perf_counter()
            for step in recording.steps:
                assert step.scores is not None
            figures["steps read a second"] = len(recording.steps) / (time.perf_counter() - began)
    return figures


def _written_a_second(subject: Subject, inputs: Inputs, new: int, folder: Path) -> float:
    """How fast the writer's thread works off steps that are all there already, at level ``stats``."""
    held: list[Any] = []
    put, path = Recorder.put, folder / "speed.trace"

    def hold(self: Recorder, job: Any) -> None:
        held.append((self, job))
        if len(held) == new:
            began = time.perf_counter()
            for recorder, each in held:
                put(recorder, each)
            held[0][0].flush()
            held.append(new / (time.perf_counter() - began))

    with patch.object(Recorder, "put", hold), trace(subject.model, path=path):
        subject.generate(inputs, new)
    speed: float = held.pop()
    return speed
