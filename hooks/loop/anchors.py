"""The source line of each stop in the installed library, found by its statement."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import GenerationMixin, PreTrainedModel

from tracer.schema.run import Anchor, StopName

EXCERPT_LINES = 6
"""Source lines recorded before and after an anchor."""


@dataclass(frozen=True)
class _Statement:
    """A statement to find.

    Attributes:
        stop: the stop that happens there.
        start: how the stripped source line begins.
        sampling: True or False if the line belongs to one mode only.
    """

    stop: StopName
    start: str
    sampling: bool | None = None


_SAMPLE_STATEMENTS = (
    _Statement("model-call", "outputs = self(**model_inputs, return_dict=True)"),
    _Statement("next-logits", "next_token_logits = outputs.logits[:, -1, :]"),
    _Statement("processors", "next_token_scores = logits_processor(input_ids, next_token_logits)"),
    _Statement("warpers", "next_token_scores = logits_warper(input_ids, next_token_scores)"),
    _Statement("softmax", "probs = nn.functional.softmax(next_token_scores, dim=-1)"),
    _Statement("choice", "next_tokens = torch.multinomial(probs, num_samples=1)", sampling=True),
    _Statement("choice", "next_tokens = torch.argmax(next_token_scores, dim=-1)", sampling=False),
    _Statement("append", "input_ids = torch.cat([input_ids, next_tokens[:, None]], dim=-1)"),
    _Statement("update", "model_kwargs = self._update_model_kwargs_for_generation("),
    _Statement("stopping", "unfinished_sequences = unfinished_sequences & ~stopping_criteria("),
)

_FORWARD_STATEMENTS = (_Statement("forward-result", "loss = None"),)


def find_anchors(model: PreTrainedModel, *, do_sample: bool) -> tuple[Anchor, ...]:
    """Anchors of all stops that the installed source has.

    A statement that is not found (another release, a model whose ``forward`` reads differently) has no
    anchor; its stop is still recorded.

    Args:
        model: the traced model; its class's ``forward`` holds the ``forward-result`` stop.
        do_sample: which of the two choice statements runs.
    """
    return (
        *_find(GenerationMixin._sample, _SAMPLE_STATEMENTS, do_sample),
        *_find(type(model).forward, _FORWARD_STATEMENTS, do_sample),
    )


@functools.cache
def _find(
    function: Callable[..., Any], statements: tuple[_Statement, ...], do_sample: bool
) -> tuple[Anchor, ...]:
    return tuple(_search(function, statements, do_sample))


def _search(
    function: Callable[..., Any], statements: tuple[_Statement, ...], do_sample: bool
) -> Iterator[Anchor]:
    lines, first, path = _source(function)
    for statement in statements:
        if statement.sampling not in (None, do_sample):
            continue
        for index, line in enumerate(lines):
            if line.strip().startswith(statement.start):
                low = max(0, index - EXCERPT_LINES)
                yield Anchor(
                    stop=statement.stop,
                    file=_short_path(path, function),
                    path=str(path),
                    line=first + index,
                    text=line.strip(),
                    excerpt_start=first + low,
                    excerpt=tuple(text.rstrip("\n") for text in lines[low : index + EXCERPT_LINES + 1]),
                )
                break


def _source(function: Callable[..., Any]) -> tuple[list[str], int, Path]:
    """Source lines of a function, the number of the first, and the file; parsing it takes milliseconds."""
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
