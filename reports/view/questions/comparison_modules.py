"""How far the modules of two runs are apart in a step, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from reports.view.figures import count, plural
from reports.view.layers import WHOLE_MODEL, layer_of
from reports.view.questions.diff import rows_text
from reports.view.text import plain
from tracer.analysis.diff.modules import ModuleStep
from tracer.analysis.diff.report import DiffReport, NumberDifference

_FLOOR = -9
"""Lowest decade of the scale: float32 rounds at 6e-8."""


@dataclass(frozen=True)
class ModuleGap:
    """One number of a module that differs.

    Attributes:
        module: name of the module.
        quantity: what differs, and of which rows where it is not the whole batch's.
        a: in run A.
        b: in run B.
        size: how far they are apart.
        relative: the same in relation to the size of the values.
        share: the same as a share of the chart's scale, 0 to 1.
        allowed: what rounding explains, as a share of the scale.
        beyond: whether it is more than that.
    """

    module: str
    quantity: str
    a: str
    b: str
    size: str
    relative: str
    share: float
    allowed: float
    beyond: bool


@dataclass(frozen=True)
class LayerGap:
    """A decoder layer with the modules in it, or a module outside all layers.

    Attributes:
        name: its name.
        worst: the number that is farthest apart in relation to the size of the values; None where all that
            compares is the same.
        gaps: all numbers that differ, in the order in which the modules returned.
    """

    name: str
    worst: ModuleGap | None
    gaps: tuple[ModuleGap, ...]


@dataclass(frozen=True)
class ModuleStepView:
    """The modules of one step.

    Attributes:
        number: of the step.
        title: which step, and why it is shown.
        summary: how many calls differ.
        decades: first and last power of ten of the chart's logarithmic scale.
        layers: in the order in which they began to return.
    """

    number: int
    title: str
    summary: str
    decades: tuple[int, int]
    layers: tuple[LayerGap, ...]


def module_step_view(step: ModuleStep, report: DiffReport) -> ModuleStepView:
    """Put the modules of a step into words and shares.

    Args:
        step: the modules.
        report: the comparison that they belong to.
    """
    decades = (_FLOOR, _last_decade(step.differences))
    names = dict.fromkeys(_place(module) for module in step.modules)
    found: dict[str, list[tuple[float, ModuleGap]]] = {name: [] for name in names}
    for difference in step.differences:
        place = _place(difference.module or "")
        found.setdefault(place, []).append((difference.relative, _gap(difference, decades, report)))
    return ModuleStepView(
        number=step.number,
        title=f"Step {step.number}: {_why(step.number, report)}",
        summary=_summary(step),
        decades=decades,
        layers=tuple(_layer(name, gaps) for name, gaps in found.items()),
    )


def _why(number: int, report: DiffReport) -> str:
    first, token = report.first_beyond or report.first, report.first_token
    reasons = []
    if first is not None and first.step == number:
        reasons.append(
            "the first number that rounding does not explain"
            if first.beyond
            else "the first number that differs"
        )
    if token is not None and token.step == number:
        reasons.append("the first differing token")
    return " and ".join(reasons)


def _summary(step: ModuleStep) -> str:
    if not step.calls:
        whole = "The batches differ, or a run has no statistics: what is recorded of each row is compared."
        return whole if step.differences else f"{whole} Nothing of it differs."
    calls = len({each.module for each in step.differences if each.rows is None})
    if not step.differences:
        return f"All {plural(step.calls, 'module call')} gave the same statistics: the forward passes agree."
    return f"{count(calls)} of {plural(step.calls, 'module call')} gave other statistics."


def _place(module: str) -> str:
    return plain(layer_of(module) or module) or WHOLE_MODEL


def _layer(name: str, gaps: list[tuple[float, ModuleGap]]) -> LayerGap:
    worst = max(gaps, key=lambda each: math.inf if math.isnan(each[0]) else each[0], default=None)
    return LayerGap(name, None if worst is None else worst[1], tuple(gap for _, gap in gaps))


def _gap(found: NumberDifference, decades: tuple[int, int], report: DiffReport) -> ModuleGap:
    several = len(report.rows) > 1
    quantity = plain(found.quantity)
    if found.rows is not None and several:
        quantity += f", {rows_text(found.rows)}"
    return ModuleGap(
        module=plain(found.module or "") or WHOLE_MODEL,
        quantity=quantity,
        a=f"{found.a:.9g}",
        b=f"{found.b:.9g}",
        size=f"{found.size:.3g}",
        relative=f"{found.relative:.2g}",
        share=_share(found.relative, decades),
        allowed=_share(found.allowed, decades),
        beyond=found.beyond,
    )


def _share(value: float, decades: tuple[int, int]) -> float:
    """Place of a relative distance on the scale."""
    if not math.isfinite(value):
        return 1.0
    low, high = decades
    return 0.0 if value <= 0 else min(max((math.log10(value) - low) / (high - low), 0.0), 1.0)


def _last_decade(found: Iterable[NumberDifference]) -> int:
    largest = max((each.relative for each in found if math.isfinite(each.relative)), default=0.0)
    return max(0, math.ceil(math.log10(largest))) if largest > 0 else 0
