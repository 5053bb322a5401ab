"""Watch logits processors, warpers and stopping criteria: stand-ins for the lists given to ``_sample``.

The lists keep their own behaviour; only what passes through them is recorded. Elements are replaced by
stand-ins that call the original and pass every other attribute through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from tracer.schema.run import CriterionInfo, ProcessorInfo
from tracer.schema.setting_text import setting_text


class ScoreObserver(Protocol):
    """Receives scores and the answers of stopping criteria; must never raise."""

    def on_scores(self, stage: int, scores: torch.Tensor) -> None:
        """Scores ``[batch, vocab]`` before the first processor (stage 0) or after the stage-th."""

    def on_scores_done(self, scores: torch.Tensor) -> torch.Tensor:
        """The last warper has run; the choice is next.

        Returns:
            The scores to choose from: the same, unless the user changes this choice.
        """

    def on_appended(self, input_ids: torch.Tensor) -> None:
        """``input_ids`` ``[batch, length]`` with the chosen tokens, before the stopping criteria."""

    def on_criterion(self, index: int, done: Any) -> None:
        """The answer of one stopping criterion."""

    def on_stopping_done(self, done: torch.Tensor) -> torch.Tensor:
        """The criteria's common answer: ``[batch]`` booleans. The step is over.

        Returns:
            The answer for the loop: the same, or yes for every row where the user ends the run here.
        """


class _WatchedProcessor(LogitsProcessor):  # type: ignore[misc]
    def __init__(self, processor: Any, after: Callable[[torch.Tensor], None]) -> None:
        self._processor = processor
        self._after = after

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> Any:
        result = self._processor(input_ids, scores)
        self._after(result)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def __repr__(self) -> str:
        return repr(self._processor)


class _WatchedScores(LogitsProcessorList):  # type: ignore[misc]
    """A processor list that reports its input and its output."""

    def watch(
        self,
        begin: Callable[[torch.Tensor], None] | None,
        end: Callable[[torch.Tensor], torch.Tensor] | None,
    ) -> None:
        self._begin, self._end = begin, end

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> Any:
        if self._begin is not None:
            self._begin(scores)
        result = super().__call__(input_ids, scores, **kwargs)
        return result if self._end is None else self._end(result)


class _WatchedCriterion(StoppingCriteria):  # type: ignore[misc]
    def __init__(self, criterion: Any, after: Callable[[Any], None]) -> None:
        self._criterion = criterion
        self._after = after

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> Any:
        done = self._criterion(input_ids, scores, **kwargs)
        self._after(done)
        return done

    def __getattr__(self, name: str) -> Any:
        # _sample asks every criterion for eos_token_id; the stand-in must answer as the original would.
        return getattr(self._criterion, name)


class _WatchedCriteria(StoppingCriteriaList):  # type: ignore[misc]
    def watch(self, observer: ScoreObserver) -> None:
        self._observer = observer

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> Any:
        self._observer.on_appended(input_ids)
        done = super().__call__(input_ids, scores, **kwargs)
        return self._observer.on_stopping_done(done)


def watch_processors(
    processors: LogitsProcessorList, warpers: LogitsProcessorList | None, observer: ScoreObserver
) -> tuple[LogitsProcessorList, LogitsProcessorList | None]:
    """Stand-ins for the two lists.

    Args:
        processors: ``logits_processor`` as given to ``_sample``.
        warpers: ``logits_warper``; None when greedy.
        observer: receives what passes through.

    Returns:
        The lists to hand to ``_sample`` instead.
    """

    def after(stage: int) -> Callable[[torch.Tensor], None]:
        return lambda scores: observer.on_scores(stage, scores)

    first = _WatchedScores(_WatchedProcessor(each, after(i)) for i, each in enumerate(processors, 1))
    if warpers is None:
        first.watch(after(0), observer.on_scores_done)
        return first, None
    first.watch(after(0), None)
    offset = 1 + len(processors)
    second = _WatchedScores(_WatchedProcessor(each, after(i)) for i, each in enumerate(warpers, offset))
    second.watch(None, observer.on_scores_done)
    return first, second


def watch_criteria(criteria: StoppingCriteriaList, observer: ScoreObserver) -> StoppingCriteriaList:
    """A stand-in for the stopping criteria.

    Args:
        criteria: as given to ``_sample``.
        observer: receives what passes through.
    """

    def after(index: int) -> Callable[[Any], None]:
        return lambda done: observer.on_criterion(index, done)

    watched = _WatchedCriteria(_WatchedCriterion(each, after(i)) for i, each in enumerate(criteria))
    watched.watch(observer)
    return watched


def describe_processors(
    processors: LogitsProcessorList, warpers: LogitsProcessorList | None
) -> tuple[ProcessorInfo, ...]:
    """Records of both lists, in order."""
    return (
        *(
            ProcessorInfo(
                list_name="logits_processor", class_name=type(each).__name__, settings=_settings(each)
            )
            for each in processors
        ),
        *(
            ProcessorInfo(list_name="logits_warper", class_name=type(each).__name__, settings=_settings(each))
            for each in warpers or ()
        ),
    )


def describe_criteria(criteria: StoppingCriteriaList) -> tuple[CriterionInfo, ...]:
    """Records of the stopping criteria, in order."""
    return tuple(CriterionInfo(class_name=type(each).__name__, settings=_settings(each)) for each in criteria)


def _settings(element: object) -> dict[str, str]:
    """Public scalar attributes and small tensors or lists, as text."""
    settings: dict[str, str] = {}
    for name, value in getattr(element, "__dict__", {}).items():
        if name.startswith("_"):
            continue
        if isinstance(value, torch.Tensor) and value.numel() <= 16:
            value = value.tolist()
        if isinstance(value, bool | int | float | str | list | tuple | set):
            settings[name] = setting_text(value)
    return settings
