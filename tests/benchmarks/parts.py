"""The parts of what tracing costs that can be measured closely where whole runs scatter by a tenth.

What is left is what goes on between the calls of the modules, which is lost in the time of the forward pass.
"""

from __future__ import annotations

import functools
import gc
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.benchmarks.models import Subject
from tracer import trace

_WARM_UP = 4


@dataclass(frozen=True)
class Parts:
    """What a traced step costs, milliseconds.

    Attributes:
        what: the capture level.
        between: longer time from the end of a forward pass to the begin of the next one.
        error: its standard error.
        untraced: that time without tracing.
        writer: processor time of the thread that writes, as it works beside the model; the run's header and
            prompt are spread over the steps.
    """

    what: str
    between: float
    error: float
    untraced: float
    writer: float


def measure_parts(subject: Subject, what: str, settings: Mapping[str, Any], *, new: int, pairs: int) -> Parts:
    """Measure a traced run and an untraced one in turn.

    Args:
        subject: the model.
        what: the capture level.
        settings: of :func:`tracer.trace`.
        new: tokens a run.
        pairs: how often.
    """
    inputs = subject.inputs(1, 30)
    untraced: list[float] = []
    longer: list[float] = []
    writer: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(pairs):
            gc.collect()
            with _between(subject) as times:
                subject.generate(inputs, new)
            untraced.append(statistics.median(times[_WARM_UP:]))
            with (
                _between(subject) as times,
                trace(subject.model, path=Path(folder) / f"{number}.trace", **settings) as session,
            ):
                subject.generate(inputs, new)
                session.flush()
                writer.append(_writer_seconds() / new)
            longer.append(statistics.median(times[_WARM_UP:]) - untraced[-1])
    return Parts(
        what=what,
        between=statistics.mean(longer) * 1e3,
        error=statistics.stdev(longer) / len(longer) ** 0.5 * 1e3,
        untraced=statistics.median(untraced) * 1e3,
        writer=statistics.median(writer) * 1e3,
    )


@contextmanager
def _between(subject: Subject) -> Iterator[list[float]]:
    """Seconds from the end of one forward pass to the begin of the next."""
    times: list[float] = []
    ended: float | None = None
    kind = type(subject.model)
    forward = kind.forward

    @functools.wraps(forward)
    def timed(*args: Any, **kwargs: Any) -> Any:
        nonlocal ended
        if ended is not None:
            times.append(time.perf_counter() - ended)
        output = forward(*args, **kwargs)
        ended = time.perf_counter()
        return output

    with patch.object(kind, "forward", timed):
        yield times


def _writer_seconds() -> float:
    """Processor time that the thread that writes has used."""
    thread = next(each for each in threading.enumerate() if each.name == "trace-writer")
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
