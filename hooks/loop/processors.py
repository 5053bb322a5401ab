"""Watch logits processors, warpers and stopping criteria: stand-ins for the lists given to ``_sample``.

The lists keep their own behaviour; only what passes through them is recorded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from transformers import LogitsProcessorList, StoppingCriteriaList

from hooks.decoding.loop_watch import ScoreObserver
from hooks.faults import is_ours
from hooks.loop.stand_ins import list_like, stand_in
from hooks.printing import printed
from hooks.tensors import clone
from hooks.user_modes import unseen_by_modes
from tracer.schema.run import CriterionInfo, ProcessorInfo
from tracer.schema.setting_text import setting_text


def watch_processors(
    processors: LogitsProcessorList,
    warpers: LogitsProcessorList | None,
    observer: ScoreObserver,
    rewritten: Callable[[str], None],
) -> tuple[LogitsProcessorList, LogitsProcessorList | None]:
    """Stand-ins for the two lists.

    Args:
        processors: ``logits_processor`` as given to ``_sample``.
        warpers: ``logits_warper``; None when greedy.
        observer: receives what passes through.
        rewritten: called with the class of a processor that has written into the ids that it was given.

    Returns:
        The lists to hand to ``_sample`` instead.
    """
    ids = _GivenIds()

    def elements(originals: Iterable[Any], first: int) -> Iterator[Any]:
        for stage, each in enumerate(originals, first):
            yield stand_in(each, partial(after, stage, type(each).__name__))

    def after(stage: int, name: str, scores: Any) -> None:
        if ids.written():
            rewritten(printed(name))
        observer.on_scores(stage, scores)

    def first(inner: Any, input_ids: Any, scores: Any, *args: Any, **kwargs: Any) -> Any:
        ids.give(input_ids)
        observer.on_scores(0, scores)
        result = inner(input_ids, scores, *args, **kwargs)
        return observer.on_scores_done(result) if warpers is None else result

    def second(inner: Any, input_ids: Any, *args: Any, **kwargs: Any) -> Any:
        ids.give(input_ids)
        return observer.on_scores_done(inner(input_ids, *args, **kwargs))

    watched = list_like(processors, elements(processors, 1), first)
    if warpers is None:
        return watched, None
    return watched, list_like(warpers, elements(warpers, 1 + len(processors)), second)


class _GivenIds:
    """The ids that the processors of a list are given, and how often they had been written to."""

    def __init__(self) -> None:
        self._ids: torch.Tensor | None = None
        self._counts = False
        self._version = 0
        self._values: torch.Tensor | None = None

    @unseen_by_modes
    def give(self, ids: Any) -> None:
        """A list of processors is about to run.

        Args:
            ids: what it is given.
        """
        self._ids = ids if isinstance(ids, torch.Tensor) else None
        self._counts = self._ids is not None and not self._ids.is_inference()
        self._note()

    @unseen_by_modes
    def written(self) -> bool:
        """Whether they were written to since this was asked last."""
        if self._ids is None:
            return False
        if self._counts:
            same = self._ids._version == self._version
        else:
            same = self._values is None or torch.equal(self._ids, self._values)
        if not same:
            self._note()
        return not same

    def _note(self) -> None:
        """Tensors of inference mode do not count; a GPU would have to be waited for to compare values."""
        ids = self._ids
        self._version = ids._version if ids is not None and self._counts else 0
        self._values = clone(ids) if ids is not None and not self._counts and ids.is_cpu else None


def watch_criteria(criteria: StoppingCriteriaList, observer: ScoreObserver) -> StoppingCriteriaList:
    """A stand-in for the stopping criteria.

    Args:
        criteria: as given to ``_sample``.
        observer: receives what passes through.
    """

    def call(inner: Any, input_ids: Any, *args: Any, **kwargs: Any) -> Any:
        observer.on_appended(input_ids)
        return observer.on_stopping_done(inner(input_ids, *args, **kwargs))

    elements = (stand_in(each, partial(observer.on_criterion, i)) for i, each in enumerate(criteria))
    return list_like(criteria, elements, call)


def describe_processors(
    processors: LogitsProcessorList, warpers: LogitsProcessorList | None
) -> tuple[ProcessorInfo, ...]:
    """Records of both lists, in order."""
    return (
        *(ProcessorInfo(list_name="logits_processor", **_class_and_settings(each)) for each in processors),
        *(ProcessorInfo(list_name="logits_warper", **_class_and_settings(each)) for each in warpers or ()),
    )


def describe_criteria(criteria: StoppingCriteriaList) -> tuple[CriterionInfo, ...]:
    """Records of the stopping criteria, in order."""
    return tuple(CriterionInfo(**_class_and_settings(each)) for each in criteria)


def _class_and_settings(element: object) -> dict[str, Any]:
    kind = type(element)
    return {"class_name": kind.__name__, "module": kind.__module__, "settings": _settings(element)}


MAX_VALUES = 64
"""Largest tensor whose values are a setting; of a larger one their number is."""


def _settings(element: object) -> dict[str, str]:
    """Public scalar attributes, tensors and lists, and all functions, as text."""
    settings: dict[str, str] = {}
    for name, value in [*getattr(element, "__dict__", {}).items()]:
        if inspect.isroutine(value) or isinstance(value, partial):
            settings[printed(name.lstrip("_"))] = printed(value, setting_text)
            continue
        if name.startswith("_"):
            continue
        if isinstance(value, torch.Tensor):
            value = _values(value) if value.numel() <= MAX_VALUES else f"{value.numel()} values"
        if isinstance(value, bool | int | float | str | list | tuple | set):
            settings[printed(name)] = printed(value, setting_text)
    return settings


def _values(tensor: torch.Tensor) -> Any:
    """The values of a small tensor; None where they cannot be had, as on the ``meta`` device."""
    try:
        return tensor.tolist()
    except Exception as error:
        if not is_ours(error):
            raise
        return None
