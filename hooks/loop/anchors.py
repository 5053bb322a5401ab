"""The source line of each stop in the installed library, found by its statement."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import GenerationMixin, PreTrainedModel

from hooks.instance_class import untouched_class
from tracer.errors import UnsupportedError
from tracer.library.loop import FORWARD, Loop, Statement
from tracer.library.release import installed_release
from tracer.schema.run import Anchor, LoopName

EXCERPT_LINES = 6
"""Source lines recorded before and after an anchor."""


def find_anchors(
    model: PreTrainedModel, loop: Loop, *, do_sample: bool, speculative: bool = False
) -> tuple[Anchor, ...]:
    """Anchors of all stops that the installed source has.

    A model whose ``forward`` reads differently has no anchor for its result; the stop is still recorded.

    Args:
        model: the traced model; its class's ``forward`` holds the ``forward-result`` stop.
        loop: its loop.
        do_sample: whether tokens are drawn, which decides on the statement of the choice.
        speculative: whether they are by comparing probabilities with a draft model's.
    """
    found = (
        _anchor(_function(model, each, loop), each, each.function or loop.method)
        for each in loop.statements
        if each.runs(do_sample=do_sample, speculative=speculative)
    )
    return tuple(anchor for anchor in found if anchor is not None)


def require_statements(loop: Loop) -> None:
    """See that the installed source is what the loop says; a block that records nothing must not begin.

    Args:
        loop: the loop of the installed release.

    Raises:
        UnsupportedError: a method or a statement of it is not there.
    """
    for statement in loop.statements:
        name = statement.function or loop.method
        if name == FORWARD or not statement.everywhere:
            continue
        function = getattr(GenerationMixin, name, None)
        if function is None or (_anchor(function, statement, name) is None and _source(function)[0]):
            raise UnsupportedError(
                f"{name} of this transformers has no line {statement.start!r}: it was changed, "
                "and cannot be traced. Install one of the releases as it was published."
            )


def end_of_step(loop: LoopName) -> tuple[str, int] | None:
    """Path and line at which a step of a loop is over; None where that is behind the stopping criteria.

    Args:
        loop: a loop of the installed release.
    """
    found = next((each for each in installed_release().loops if each.method == loop), None)
    if found is None or found.end is None:
        return None
    anchor = _anchor(getattr(GenerationMixin, loop), Statement("stopping", found.end), loop)
    return None if anchor is None else (anchor.path, anchor.line)


def _function(model: PreTrainedModel, statement: Statement, loop: Loop) -> Callable[..., Any]:
    owner = untouched_class(type(model)) if statement.function == FORWARD else GenerationMixin
    function: Callable[..., Any] = getattr(owner, statement.function or loop.method)
    return function


@functools.cache
def _anchor(function: Callable[..., Any], statement: Statement, name: str) -> Anchor | None:
    lines, first, path = _source(function)
    found = [index for index, line in enumerate(lines) if line.strip().startswith(statement.start)]
    if len(found) < statement.occurrence:
        return None
    index = found[statement.occurrence - 1]
    low = max(0, index - EXCERPT_LINES)
    return Anchor(
        stop=statement.stop,
        function=name,
        phase=statement.phase,
        file=_short_path(path, function),
        path=str(path),
        line=first + index,
        text=lines[index].strip(),
        excerpt_start=first + low,
        excerpt=tuple(text.rstrip("\n") for text in lines[low : index + EXCERPT_LINES + 1]),
    )


@functools.cache
def _source(function: Callable[..., Any]) -> tuple[list[str], int, Path]:
    """Source lines of a function, the number of the first, and the file; parsing it takes milliseconds."""
    function = inspect.unwrap(function)  # the file would be a decorator's
    try:
        lines, first = inspect.getsourcelines(function)
        return lines, first, Path(inspect.getsourcefile(function) or "")
    except (OSError, TypeError):  # no source installed: byte-code only, or made at run time
        return [], 0, Path()


def _short_path(path: Path, function: Callable[..., Any]) -> str:
    """The path from the package root, e.g. ``transformers/generation/utils.py``."""
    package = function.__module__.partition(".")[0]
    module = sys.modules.get(package)
    if module is None or not module.__file__:
        return path.name
    root = Path(module.__file__).parent.parent
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
