"""What-if settings: the processors that ``generate()`` would have used with changed settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracer.analysis.processors.edits import RepetitionPenalty, Temperature
from tracer.analysis.processors.filters import Epsilon, Eta, MinP, TopK, TopP, Typical
from tracer.analysis.processors.processor import PlacedProcessor, Processor
from tracer.analysis.processors.roles import ORDERS, ROLES, Role
from tracer.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """Changed generation settings; None keeps a setting as it was recorded.

    Attributes:
        temperature: above 0; 1 means none.
        top_k: 0 means none.
        top_p: 0 to 1; 1 means none.
        min_p: 0 to 1; 0 means none.
        typical_p: above 0, at most 1; 1 means none.
        epsilon_cutoff: 0 to 1; 0 or 1 means none.
        eta_cutoff: 0 to 1; 0 or 1 means none.
        repetition_penalty: above 0; 1 means none.
        penalty_alpha: 0 to 1; the weight of the penalty in contrastive search, which no processor has.
        greedy: True for the most probable token, False for a draw.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    epsilon_cutoff: float | None = None
    eta_cutoff: float | None = None
    repetition_penalty: float | None = None
    penalty_alpha: float | None = None
    greedy: bool | None = None

    def __post_init__(self) -> None:
        for name, knob in KNOBS.items():
            value = getattr(self, name)
            if value is not None and not knob.allows(value):
                raise UsageError(f"{name.replace('_', '-')} {value} is not possible: {knob.range}")
        if self.penalty_alpha is not None and not 0 <= self.penalty_alpha <= 1:
            raise UsageError(f"penalty-alpha {self.penalty_alpha} is not possible: it must be from 0 to 1")

    @classmethod
    def of(cls, changes: Mapping[str, float | bool]) -> Settings:
        """Settings by name.

        Args:
            changes: values by the names of the attributes.

        Raises:
            UsageError: an unknown name or an impossible value.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name, value in changes.items():
            if name not in names:
                raise UsageError(f"unknown setting {name}; choose from {', '.join(names)}")
            if name in KNOBS and KNOBS[name].kind is TopK and not float(value).is_integer():
                raise UsageError(
                    f"{name.replace('_', '-')} {value} is not possible: it must be a whole number"
                )
        return cls(**changes)  # type: ignore[arg-type]

    @property
    def changes(self) -> dict[str, float | bool]:
        """The changed settings by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Knob:
    """A generation setting and the processor that ``generate()`` makes from it.

    Attributes:
        kind: class of the processor.
        field: the processor's attribute that holds the setting.
        off: the value with which there is no such processor.
        low: smallest value.
        high: largest value.
        above: whether ``low`` itself is excluded.
        role: what ``generate()`` makes the processor for.
    """

    kind: type[Processor]
    field: str
    off: float
    low: float
    high: float = float("inf")
    above: bool = False
    role: Role = "warper"

    def allows(self, value: float) -> bool:
        """Whether transformers accepts the value."""
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    @property
    def range(self) -> str:
        """The accepted values in words."""
        below = "" if self.high == float("inf") else f" and at most {self.high:g}"
        return f"it must be {'above' if self.above else 'at least'} {self.low:g}{below}"

    def is_off(self, value: float) -> bool:
        """Whether ``generate()`` makes no processor for a value (no cutoff at 0 and at 1)."""
        return value == self.off or (self.kind in (Epsilon, Eta) and value in (0, 1))

    def make(self, value: float) -> Processor:
        """A new processor with this setting."""
        return self.kind(**self._setting(value))

    def change(self, processor: Processor, value: float) -> Processor:
        """The same processor with another value."""
        return dataclasses.replace(processor, **self._setting(value))

    def _setting(self, value: float) -> dict[str, Any]:
        return {self.field: int(value) if self.kind is TopK else float(value)}

    def value(self, placed: Sequence[PlacedProcessor]) -> float:
        """The value in force."""
        found = next((each.processor for each in placed if isinstance(each.processor, self.kind)), None)
        return self.off if found is None else float(getattr(found, self.field))


KNOBS: dict[str, Knob] = {
    "temperature": Knob(Temperature, "temperature", off=1.0, low=0.0, above=True),
    "top_k": Knob(TopK, "top_k", off=0, low=0),
    "top_p": Knob(TopP, "top_p", off=1.0, low=0.0, high=1.0),
    "min_p": Knob(MinP, "min_p", off=0.0, low=0.0, high=1.0),
    "typical_p": Knob(Typical, "mass", off=1.0, low=0.0, high=1.0, above=True),
    "epsilon_cutoff": Knob(Epsilon, "epsilon", off=0.0, low=0.0, high=1.0),
    "eta_cutoff": Knob(Eta, "epsilon", off=0.0, low=0.0, high=1.0),
    "repetition_penalty": Knob(RepetitionPenalty, "penalty", off=1.0, low=0.0, above=True, role="processor"),
}


def change_processors(
    placed: Sequence[PlacedProcessor], settings: Settings, *, do_sample: bool
) -> tuple[tuple[PlacedProcessor, ...], bool]:
    """The processors that ``generate()`` would have used.

    Args:
        placed: recorded processors.
        settings: the changed settings.
        do_sample: whether the recorded run drew its tokens.

    Returns:
        The processors, and whether a token would be drawn. Settings of warpers have no effect on a greedy
        run, as in transformers.
    """
    sampling = do_sample if settings.greedy is None else not settings.greedy
    elements = list(placed)
    for name, value in settings.changes.items():
        if name in KNOBS:
            elements = _with_setting(elements, KNOBS[name], float(value))
    if not sampling:
        elements = [each for each in elements if each.role != "warper"]
    return tuple(elements), sampling


def _with_setting(elements: list[PlacedProcessor], knob: Knob, value: float) -> list[PlacedProcessor]:
    """The processors with that of one setting changed, removed or added."""
    place = next((i for i, each in enumerate(elements) if isinstance(each.processor, knob.kind)), None)
    if place is not None:
        old = elements[place]
        new = [] if knob.is_off(value) else [PlacedProcessor(old.role, knob.change(old.processor, value))]
        return [*elements[:place], *new, *elements[place + 1 :]]
    if knob.is_off(value):
        return elements
    place = _place(elements, knob)
    return [*elements[:place], PlacedProcessor(knob.role, knob.make(value)), *elements[place:]]


def _place(elements: Sequence[PlacedProcessor], knob: Knob) -> int:
    """Where ``generate()`` puts a new processor: before the first that comes later in its order."""
    earlier = ROLES[: ROLES.index(knob.role)]
    before = ORDERS[knob.role][: ORDERS[knob.role].index(knob.kind.class_name)]
    place = 0
    for index, each in enumerate(elements):
        if each.role == knob.role and each.name not in before:
            return index
        if each.role == knob.role or each.role in earlier:
            place = index + 1
    return place
