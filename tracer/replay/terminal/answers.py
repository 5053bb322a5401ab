"""What the commands on a recording print about a halt; none of them moves."""

from __future__ import annotations

from rich.console import RenderableType

from reports.terminal.halt import render_source, render_stack, render_text
from tracer.halting.run_so_far import up_to
from tracer.replay.answers.console import Asked, answer
from tracer.replay.moment import Moment
from tracer.replay.stack.frames import Frame
from tracer.replay.values.cache import cache_of_candidates
from tracer.replay.values.value import Value
from tracer.stepper.difference import difference
from tracer.stepper.tables import best_of, cache_of

_PARTS = 40
"""Parts of a value that ``p`` shows."""

_NO_SOURCE = "The recording has no source line for this stop."


def evaluated(moment: Moment, frame: Frame, row: int, text: str) -> RenderableType:
    """The value of an expression, with its parts below it.

    Args:
        moment: the moment.
        frame: the innermost frame.
        row: row of the batch.
        text: the expression.
    """
    value = answer(Asked(moment, frame.kind, row), text)
    return render_text([*value.text.splitlines(), *_parts(value)])


def _parts(value: Value) -> list[str]:
    items = [*value.names()[:_PARTS], *value.page(0, _PARTS - min(_PARTS, value.named))]
    left = value.named + value.indexed - len(items)
    lines = [f"  {item.name}: {item.value.text}" for item in items]
    return [*lines, f"  … {left:,} more"] if left else lines


def recorded_listing(frame: Frame, around: int) -> RenderableType:
    """The source around the line of a frame.

    Args:
        frame: the frame.
        around: number of lines before and after.
    """
    if frame.source is None:
        return render_text([_NO_SOURCE])
    return render_source(frame.source.lines_around(frame.line, around), frame.line)


def recorded_stack(frames: tuple[Frame, ...]) -> RenderableType:
    """The frames, innermost last.

    Args:
        frames: the frames, innermost first.
    """
    shown = [
        (f"{each.source.file}:{each.line}" if each.source else "?", each.name, each.text)
        for each in reversed(frames)
    ]
    return render_stack(shown, 0)


def recorded_cache(moment: Moment) -> RenderableType:
    """The KV cache as of a moment.

    Args:
        moment: the moment.
    """
    between = cache_of_candidates(moment)
    if between is not None:
        return render_text([between.text])
    if moment.passed("update"):
        return cache_of(moment.step, "after")
    return cache_of(moment.step, "after the forward pass of" if moment.passed("model-call") else "before")


def recorded_top(moment: Moment, count: int, row: int) -> RenderableType:
    """The most probable tokens of a step.

    Args:
        moment: a moment of the step.
        count: number of tokens.
        row: row of the batch.
    """
    return best_of(moment.header, moment.step, moment.tokens, count, row)


def differs(moment: Moment, path: str) -> RenderableType:
    """Where this run, up to its step, and another recorded one part.

    Args:
        moment: a moment of the step.
        path: path of the other recording.
    """
    steps = [number for number in moment.run.steps.numbers if number <= moment.position.step]
    return difference(up_to(moment.run, len(steps)), path)
