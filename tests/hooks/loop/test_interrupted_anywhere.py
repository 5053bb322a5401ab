"""What a signal handler raises comes up at whatever line of ours: it ends the block, and nothing stays."""

from __future__ import annotations

import functools
import itertools
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import hooks
import tracer
from hooks import patches
from hooks.faults import surely
from hooks.loop import installation, open_traces
from tests.support.breadth import slow
from tests.support.models import SAMPLING, batch, generate, tiny_model
from tracer import trace
from tracer.session import TraceBlock

PLACES = tuple(str(Path(package.__path__[0])) for package in (hooks, tracer))
SAVE = ["logits", "kv", "hidden", "attention", "lens"]

Line = tuple[CodeType, int]


class Late(Exception):  # noqa: N818 - what a program calls its timeout
    """A timeout of the program's own."""


@pytest.fixture
def ringing() -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise Late

    before = signal.signal(signal.SIGUSR1, ring)
    yield
    sys.settrace(None)
    signal.signal(signal.SIGUSR1, before)


@functools.cache
def _beginning(code: CodeType, number: int) -> int:
    """Where a line's first instruction stands."""
    return min(start for start, _, line in code.co_lines() if line == number)


def _lines(run: Callable[[], object]) -> Counter[Line]:
    """How often each line of ours runs."""
    counts: Counter[Line] = Counter()
    _each_line(run, lambda line: counts.update([line]))
    return counts


def _each_line(run: Callable[[], object], on_line: Callable[[Line], None]) -> None:
    def watch(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PLACES):
            return None
        # At the end of a with statement its first line comes up once more, where Python itself looks for no
        # signals, so that a lock is always released.
        if event == "line" and frame.f_lasti == _beginning(frame.f_code, frame.f_lineno):
            on_line((frame.f_code, frame.f_lineno))
        return watch

    sys.settrace(watch)
    try:
        run()
    finally:
        sys.settrace(None)


def _interrupted(run: Callable[[], object], line: Line, occurrence: int) -> None:
    seen = itertools.count(1)

    def on_line(reached: Line) -> None:
        if reached == line and next(seen) == occurrence:
            sys.settrace(None)
            signal.raise_signal(signal.SIGUSR1)

    with pytest.raises(Late):
        _each_line(run, on_line)


def _writers() -> list[threading.Thread]:
    """Writer threads that do not end."""
    writers = [thread for thread in threading.enumerate() if thread.name == "trace-writer"]
    for writer in writers:
        writer.join(10)
    return [writer for writer in writers if writer.is_alive()]


@pytest.mark.parametrize("part", [0, *slow(*range(1, 16))])
def test_at_any_line(part: int, ringing: None, tmp_path: Path) -> None:
    model, inputs = tiny_model(num_hidden_layers=1), batch()
    model.model.layers[0].register_forward_hook(lambda *_: None)
    names = itertools.count()

    def run() -> None:
        with trace(model, path=tmp_path / f"{next(names)}.trace", capture="tensors", save=SAVE):
            generate(model, inputs, **SAMPLING, max_new_tokens=2, eos_token_id=None)

    def left() -> set[object]:
        return {
            *((number, name) for number, module in enumerate(model.modules()) for name in vars(module)),
            *(
                (number, key)
                for number, module in enumerate(model.modules())
                for key in module._forward_hooks
            ),
            *(("installed", key) for key in installation._installations),
            *patches._below,
            *open_traces._members,
            *open_traces.current(),
            *installation.runs_in_progress(),
            *_writers(),
            type(model),
        }

    before = left()
    run()  # what is imported at the first step is imported now
    # Nothing helps where that which puts things right is interrupted before it has begun.
    entries = [function.__code__ for function in (TraceBlock.__exit__, TraceBlock._close, surely)]
    points = [
        (line, occurrence)
        for line, count in _lines(run).items()
        if line[0] not in entries
        for occurrence in sorted({1, count})
    ]
    for line, occurrence in points[part::16]:
        _interrupted(run, line, occurrence)
        where = (Path(line[0].co_filename).name, line[1], occurrence)
        assert (where, left() ^ before) == (where, set())
