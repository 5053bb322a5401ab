"""What the commands of the stepper print about a halted run; none of them changes it."""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import RenderableType

from reports.terminal.halt import SourceLine, render_source, render_stack, render_text
from reports.terminal.questions.why import render_why
from reports.view.questions.why import why_view
from tracer.analysis.why import why
from tracer.errors import UsageError
from tracer.halting.callback import Halt
from tracer.messages import named
from tracer.schema.columns import NO_TOKEN
from tracer.stepper.tables import best_of, cache_of, short_path

_STACK = 12
"""Frames that ``w`` shows."""

_VALUE_LINES = 40
"""Lines of a value that ``p`` shows."""


def evaluate(halt: Halt, expression: str) -> RenderableType:
    """The value of an expression in the halted frame.

    The frame's variables are read, not rebound; the random state is restored, so that an expression cannot
    change the next draw.

    Args:
        halt: the halt.
        expression: Python.
    """
    frame = halt.frame
    names = {"exit": _leave, "quit": _leave, **frame.f_globals, **halt.local, **halt.changes}
    try:
        with _same_random_state():
            value = eval(compile(expression, "<p>", "eval"), names)  # noqa: S307 - what a debugger is for
            text = repr(value)
    except SyntaxError as error:
        return render_text([f"{type(error).__name__}: {error.msg}"])
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the expression raises
        return render_text([named(error)])
    lines = text.splitlines() or [""]
    if len(lines) > _VALUE_LINES:
        lines = [*lines[:_VALUE_LINES], f"… {len(lines) - _VALUE_LINES} more lines"]
    return render_text(lines)


def source_around(frame: FrameType, around: int) -> list[SourceLine]:
    """Source lines around the one that is about to run.

    Args:
        frame: the halted frame.
        around: number of lines before and after.
    """
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)
    low, high = max(1, frame.f_lineno - around), min(len(lines), frame.f_lineno + around)
    return [(number, lines[number - 1].rstrip("\n")) for number in range(low, high + 1)]


def listing(halt: Halt, around: int) -> RenderableType:
    """The source around the halt.

    Args:
        halt: the halt.
        around: number of lines before and after.
    """
    return render_source(source_around(halt.frame, around), halt.frame.f_lineno)


def stack(halt: Halt) -> RenderableType:
    """The frames from ``generate()`` inwards.

    Args:
        halt: the halt.
    """
    frames: list[FrameType] = []
    frame: FrameType | None = halt.frame
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    shown = [
        (
            f"{short_path(each.f_code.co_filename)}:{each.f_lineno}",
            each.f_code.co_name,
            linecache.getline(each.f_code.co_filename, each.f_lineno).strip(),
        )
        for each in reversed(frames[:_STACK])
    ]
    return render_stack(shown, max(0, len(frames) - _STACK))


def cache(halt: Halt) -> RenderableType:
    """The KV cache as of this step.

    Args:
        halt: the halt.
    """
    record = halt.record
    if record is None:
        raise UsageError("No step has begun.")
    if record.head.update is not None:
        return cache_of(record, "after")
    return cache_of(record, "after the forward pass of" if record.head.cache_after.layers else "before")


def top(halt: Halt, count: int, row: int) -> RenderableType:
    """The most probable tokens by the scores so far.

    Args:
        halt: the halt.
        count: number of tokens.
        row: row of the batch.
    """
    record, header = halt.record, halt.live.header
    if record is None or header is None:
        raise UsageError("No step has begun.")
    return best_of(header, record, halt.live.tokens, count, row)


def explain(halt: Halt, token: int | None, row: int) -> RenderableType:
    """What the processors do to a token: in this step if they have run, else in the step before.

    Args:
        halt: the halt.
        token: id of the token; None for the one that was chosen.
        row: row of the batch.
    """
    live = halt.live
    header, record = live.header, halt.record
    assert header is not None
    stages = 1 + len(header.processors)
    if record is None or record.scores is None or len(record.scores.scores) < stages:
        record = live.step_before()
    if record is None or record.scores is None:
        raise UsageError("The processors of this step have not run yet; n goes on.")
    if token is None:
        token = int(record.scores.chosen[row])
        if token == NO_TOKEN:
            raise UsageError(f"Step {record.number} has not chosen yet; name a token: why Large.")
    history = live.history(row, record.head.ids_before.shape[1])
    # What would have changed the outcome is computed from the header's settings, so only while none differs.
    as_recorded = all(each.kind != "set" for each in record.head.interventions)
    report = why(header, record, token, row, tokens=live.tokens, history=history, search=as_recorded)
    return render_why(why_view(report, live.tokens))


def _leave(*_arguments: object) -> None:
    """Stand in for Python's exit(), which would close the input that commands come from."""
    raise UsageError("q ends the run.")


@contextmanager
def _same_random_state() -> Iterator[None]:
    """Restore the random states, which an expression may have advanced."""
    import torch

    before = torch.get_rng_state()
    # To ask a GPU that nobody has used yet would start it.
    used: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    on_devices = torch.cuda.get_rng_state_all() if used else []
    try:
        yield
    finally:
        torch.set_rng_state(before)
        if on_devices:
            torch.cuda.set_rng_state_all(on_devices)
