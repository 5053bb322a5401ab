"""Small records and renderings for the tests of reports."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console, RenderableType

from tests.support.synthetic import synthetic_end, synthetic_header, synthetic_steps, synthetic_tokens
from tracer.schema.run import RunEnd, RunHeader, TokenText
from tracer.schema.step import Step, StepHead

TOKENS = synthetic_tokens()


def header(*, rows: int = 1, do_sample: bool = True, **changes: object) -> RunHeader:
    """A synthetic header with fields replaced."""
    return synthetic_header(rows=rows, do_sample=do_sample).model_copy(update=changes)


def steps(run: RunHeader, count: int = 3) -> list[Step]:
    """The first steps of a synthetic run."""
    return list(synthetic_steps(run, count))


def with_head(step: Step, /, **changes: object) -> Step:
    """A step with facts replaced."""
    head: StepHead = step.head.model_copy(update=changes)
    return replace(step, head=head)


def end(run: RunHeader, count: int = 3, **changes: object) -> RunEnd:
    """The end of a synthetic run with fields replaced."""
    return synthetic_end(run, count).model_copy(update=changes)


def texts(*pairs: tuple[int, str]) -> dict[int, TokenText]:
    """Token texts by id."""
    return {token: TokenText(id=token, text=text, piece=text) for token, text in pairs}


def console(width: int = 80, *, colour: bool = False, encoding: str = "utf-8") -> Console:
    """A console that writes to memory and takes nothing from the environment."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    return Console(
        file=file,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        legacy_windows=False,
        _environ={},
    )


def written(target: Console) -> str:
    """What a console of :func:`console` has written."""
    file = target.file
    assert isinstance(file, io.TextIOWrapper)
    file.flush()
    buffer = file.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(file.encoding)


def rendered(*items: RenderableType, width: int = 80, colour: bool = False, encoding: str = "utf-8") -> str:
    """Renderables as printed."""
    target = console(width, colour=colour, encoding=encoding)
    for item in items:
        target.print(item)
    return written(target)


def scrubbed(text: str) -> str:
    """Output without what depends on the machine: durations, rates, versions, the start."""
    rules: Sequence[tuple[str, str]] = (
        (r"\b\d+(\.\d+)? ms\b", "<duration>"),
        (r"\b\d+\.\d+ s\b", "<duration>"),
        (r"<duration> ━+", "<duration> ━"),  # the rule behind a duration is as long as that leaves room for
        (r"\b\d+\.\d tokens/s", "<rate>"),
        (r"started \S+", "started <time>"),
        (r"(python|torch|transformers|trace-generate) \d[\w.+]*", r"\1 <version>"),
    )
    for pattern, replacement in rules:
        text = re.sub(pattern, replacement, text)
    return text
