from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from tracer.halting.line_tracer import LineTracer
from tracer.schema.run import Anchor, StopName

pytestmark = pytest.mark.no_transformers


def loop(turns: int) -> list[int]:
    seen = []
    for turn in range(turns):
        value = doubled(turn)
        value = sum(
            [value, 1],
        )
        seen.append(value)
        stopped = turn > 100
        value = int(stopped)
    return seen


def doubled(number: int) -> int:
    result = number * 2
    return result  # noqa: RET504 - a line of its own


def anchor(function: Any, statement: str, stop: StopName) -> Anchor:
    lines, first = inspect.getsourcelines(function)
    line = first + next(i for i, text in enumerate(lines) if text.strip().startswith(statement))
    path = str(inspect.getsourcefile(function))
    return Anchor(stop=stop, file=path, path=path, line=line, text=statement, excerpt_start=line, excerpt=())


ANCHORS = (
    anchor(loop, "value = doubled", "model-call"),
    anchor(doubled, "return result", "forward-result"),
    anchor(loop, "stopped =", "stopping"),
)


@pytest.fixture(autouse=True)
def trace_function() -> Iterator[None]:
    """Whatever watches the tests themselves rests, and is back afterwards."""
    before = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(before)


def test_it_halts_before_the_line_in_the_real_frame() -> None:
    seen: list[tuple[str | None, str, Any]] = []

    def on_line(stop: StopName | None, frame: FrameType) -> None:
        local = frame.f_locals
        seen.append((stop, frame.f_code.co_name, local.get("result", local.get("stopped"))))

    tracer = LineTracer(ANCHORS, on_line)
    tracer.start()
    assert loop(2) == [1, 3]
    tracer.stop()
    assert sys.gettrace() is None
    turn = ["model-call", "forward-result", "stopping", None]
    assert [stop for stop, _, _ in seen] == turn * 2
    assert [name for _, name, _ in seen] == ["loop", "doubled", "loop", "loop"] * 2
    assert seen[1][2] == 0  # computed before
    assert seen[2][2] is None  # not yet
    assert seen[3][2] is False
    loop(1)
    assert len(seen) == 8


def test_locals_can_be_replaced() -> None:
    tracer = LineTracer(ANCHORS, lambda stop, _: {"result": 10} if stop == "forward-result" else None)
    tracer.start()
    assert loop(2) == [11, 11]
    tracer.stop()


def test_only_code_with_an_anchor_is_watched_line_by_line() -> None:
    tracer = LineTracer(ANCHORS[1:2], lambda *_: None)
    tracer.start()
    trace_function = sys.gettrace()
    assert trace_function is not None
    frame = inspect.currentframe()
    assert frame is not None
    assert trace_function(frame, "call", None) is None
    tracer.stop()


@pytest.mark.parametrize("gives_up", [False, True])
def test_another_trace_function_sees_what_it_would_see(gives_up: bool) -> None:
    events: list[tuple[str, str, int]] = []

    def other(frame: FrameType, event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename == __file__ and frame.f_code.co_name in ("loop", "doubled", "on_line"):
            events.append((frame.f_code.co_name, event, frame.f_lineno))
        return None if gives_up and event == "line" else other

    seen: list[StopName | None] = []

    def on_line(stop: StopName | None, _frame: FrameType) -> None:
        seen.append(stop)

    sys.settrace(other)
    loop(2)
    alone, events = events, []
    tracer = LineTracer(ANCHORS, on_line)
    tracer.start()
    loop(2)
    assert events == alone
    assert seen == ["model-call", "forward-result", "stopping", None] * 2
    tracer.stop()
    assert sys.gettrace() is other
    loop(1)
    assert len(events) > len(alone)
    tracer.stop()
    assert sys.gettrace() is other
    sys.settrace(None)


def test_one_that_puts_itself_in_place_again_does_not_hide_the_stops() -> None:
    def pushing(*_: Any) -> Any:
        sys.settrace(pushing)

    seen: list[StopName | None] = []
    sys.settrace(pushing)
    tracer = LineTracer(ANCHORS, lambda stop, _: seen.append(stop))
    tracer.start()
    loop(1)
    tracer.stop()
    assert seen == ["model-call", "forward-result", "stopping", None]
    assert sys.gettrace() is pushing
    sys.settrace(None)


def test_who_came_later_is_left_alone() -> None:
    def later(*_: Any) -> None:
        return None

    tracer = LineTracer(ANCHORS, lambda *_: None)
    tracer.start()
    sys.settrace(later)
    tracer.stop()
    assert sys.gettrace() is later
    sys.settrace(None)


def test_what_is_raised_ends_the_function_and_the_other_is_put_back() -> None:
    def other(*_: Any) -> None:
        return None

    def on_line(stop: StopName | None, _frame: FrameType) -> None:
        if stop == "stopping":
            raise KeyboardInterrupt

    sys.settrace(other)
    tracer = LineTracer(ANCHORS, on_line)
    tracer.start()
    with pytest.raises(KeyboardInterrupt):
        loop(3)
    tracer.stop()
    assert sys.gettrace() is other
    sys.settrace(None)


def test_stopping_inside_a_halt_ends_it_at_once() -> None:
    seen: list[StopName | None] = []

    def on_line(stop: StopName | None, _frame: FrameType) -> None:
        seen.append(stop)
        tracer.stop()

    tracer = LineTracer(ANCHORS, on_line)
    tracer.start()
    assert loop(3) == [1, 3, 5]
    assert seen == ["model-call"]
    assert sys.gettrace() is None
