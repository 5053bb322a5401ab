"""Changes that a user makes to a run in progress: a token forced or banned, a processor's setting.

The scores are changed behind the last processor, so each processor's own output is recorded as it was.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hooks.loop.course import Course, TokenChange
from hooks.patches import Patches
from tracer.analysis.processors.settings_in_force import ATTRIBUTES
from tracer.errors import UsageError
from tracer.messages import first_line
from tracer.schema.changes import Intervention

_FIXED = ("filter_value", "min_tokens_to_keep")
"""Numbers of a processor that are not generation settings."""


@dataclass(frozen=True)
class _Setting:
    attribute: str
    change: Intervention
    since: int


class Interventions:
    """The changes of one run; without any, nothing costs time.

    Args:
        elements: the run's processors, then its warpers; element ``i`` makes stage ``i + 1``.
        course: what the run is told to choose, if it is told anything.
    """

    def __init__(self, elements: list[Any], course: Course | None = None) -> None:
        self._course = course
        self._elements = elements
        self._patches = Patches()
        self._pending: list[TokenChange] = []
        self._settings: list[_Setting] = []

    @property
    def any(self) -> bool:
        """Whether there are changes to make or to record."""
        return bool(self._pending or self._settings or self._course)

    def add(self, change: TokenChange) -> None:
        """Change the scores of the next choice."""
        self._pending.append(change)

    def set(self, name: str, value: float, *, step: int, stages: int) -> Intervention:
        """Change a setting of a processor from its next call on, until the run ends.

        Args:
            name: the setting, by its name in the generation config or at the processor.
            value: its new value.
            step: number of the step in progress.
            stages: score stages that this step has already.

        Raises:
            UsageError: no processor of this run has such a setting, or it refuses the value.
        """
        attribute = ATTRIBUTES.get(name, name)
        index = next((i for i, each in enumerate(self._elements) if attribute in _numbers(each)), None)
        if index is None:
            raise self._unknown(name)
        element = self._elements[index]
        self._patches.set(element, attribute, _checked(element, attribute, name, value))
        now = getattr(element, attribute)
        change = Intervention(kind="set", detail=f"{name} {now}", setting=name, value=now)
        since = step + 1 if stages > index + 1 else step
        self._settings = [each for each in self._settings if each.attribute != attribute]
        self._settings.append(_Setting(attribute, change, since))
        return change

    def _unknown(self, name: str) -> UsageError:
        names = {attribute: alias for alias, attribute in ATTRIBUTES.items()}
        known = sorted({names.get(key, key) for each in self._elements for key in _numbers(each)})
        return UsageError(
            f"set {name}: no processor of this run has such a setting; "
            + (f"there are {', '.join(known)}." if known else "it has no processor with settings.")
        )

    def apply(
        self, scores: torch.Tensor, step: int, stages: Sequence[torch.Tensor] | None
    ) -> tuple[torch.Tensor, list[Intervention]]:
        """The scores to choose from, and what was changed in this step.

        Args:
            scores: ``[batch, vocab]`` behind the last processor; never written to.
            step: number of the step.
            stages: ``[batch, vocab]`` of each as recorded, if they are.
        """
        done = [each.change for each in self._settings if each.since <= step]
        pending, self._pending = self._pending, []
        told, said = self._told(step)
        if told or pending:
            scores = scores.clone()
        for change in (*told, *pending):
            _make(change, scores, stages)
        done += [
            Intervention(kind=change.kind, detail=change.detail, token=change.token)
            for change in (*(told if said else ()), *pending)
        ]
        return scores, done

    def _told(self, step: int) -> tuple[tuple[TokenChange, ...], bool]:
        """What the course changes in a step, and whether that is a change of what the run would choose."""
        course = self._course
        if course is None:
            return (), False
        if step >= course.origin.step:
            self._course = None
        return course.changes_in(step), step in course.told or course.tokens(step) is None

    def undo(self) -> None:
        """Restore every processor's own setting."""
        self._patches.undo()


def _make(change: TokenChange, scores: torch.Tensor, stages: Sequence[torch.Tensor] | None) -> None:
    """Make a change in scores ``[batch, vocab]``, which are written to."""
    for row in range(scores.shape[0]) if change.row is None else [change.row]:
        if change.kind == "force":
            scores[row] = -torch.inf
            scores[row, change.token] = 0.0
        else:
            earlier = [stage[row] for stage in reversed(stages or ())]
            scores[row] = _without(scores[row], change.token, earlier)


def _without(scores: torch.Tensor, token: int, earlier: Sequence[torch.Tensor]) -> torch.Tensor:
    """One row without a token; if that leaves nothing, the last of the earlier ones that has other tokens."""
    for row in (scores, *earlier):
        rest = row.to(scores.dtype, copy=True)
        rest[token] = -torch.inf
        if bool(torch.isfinite(rest).any()):
            return rest
    raise UsageError("nothing else is left to choose")


def _numbers(element: Any) -> set[str]:
    """Settings of a processor that are one number, changeable because its constructor takes them."""
    try:
        parameters = inspect.signature(type(element)).parameters
    except (TypeError, ValueError):
        return set()
    return {
        name
        for name, value in vars(element).items()
        if name in parameters
        and name not in _FIXED
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    }


def _checked(element: Any, attribute: str, name: str, value: float) -> float:
    """The value as the processor's own constructor accepts it."""
    whole = isinstance(getattr(element, attribute), int)
    if whole and value != int(value):
        raise UsageError(f"set {name}: {value:g} is not a whole number.")
    parameters = inspect.signature(type(element)).parameters
    arguments = {key: getattr(element, key) for key in parameters if hasattr(element, key)}
    arguments[attribute] = int(value) if whole else float(value)
    make: Callable[..., Any] = type(element)
    try:
        made = getattr(make(**arguments), attribute)
    except (ValueError, TypeError) as error:
        raise UsageError(f"set {name}: {first_line(error)}") from error
    return int(made) if whole else float(made)
