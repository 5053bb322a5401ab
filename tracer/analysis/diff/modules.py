"""What the modules of two compared runs returned, in the steps in which the runs begin to differ."""

from __future__ import annotations

from dataclasses import dataclass

from tracer.analysis.diff.calls import CallComparison
from tracer.analysis.diff.headers import same_batch
from tracer.analysis.diff.layers import LayerComparison
from tracer.analysis.diff.parts import recorded_apart
from tracer.analysis.diff.report import DiffReport, NumberDifference, RowPair
from tracer.analysis.diff.tolerance import Tolerance
from tracer.analysis.runs import RecordedRun, step_of
from tracer.schema.step import Step


@dataclass(frozen=True)
class ModuleStep:
    """The modules of one step.

    Attributes:
        number: of the step.
        calls: number of module calls whose statistics were compared; 0 where the batches differ, or there are
            no statistics.
        modules: names of the modules in the order in which they returned in run A.
        differences: what differs, in that order: one entry per module call, and one per pair of rows for the
            norms of a layer's keys, of its values, and for each saved tensor.
    """

    number: int
    calls: int
    modules: tuple[str, ...]
    differences: tuple[NumberDifference, ...]


def module_steps(a: RecordedRun, b: RecordedRun, report: DiffReport) -> tuple[ModuleStep, ...]:
    """The modules in the step of the first number and in that of the first token that differs.

    Where no number differs these are the modules of the first differing token alone; of two runs that are
    the same to the last bit, none.

    Args:
        a: run A.
        b: run B.
        report: their comparison.
    """
    first, token = report.first_beyond or report.first, report.first_token
    wanted = {each.step for each in (first, token) if each is not None}
    tolerance = Tolerance.of(a.header.model.dtype, b.header.model.dtype, report.tolerance)
    found = []
    for number in sorted(wanted):
        pairs = _together(report, number)
        # Once a row has diverged, statistics over all rows are of different texts.
        whole = len(pairs) == len(report.rows) and same_batch(a.header, b.header, pairs)
        left, right = step_of(a, number), step_of(b, number)
        every = LayerComparison(a, b, tolerance).every(left, right, pairs, whole_batch=whole)
        calls = CallComparison(a.header, b.header, tolerance, recorded_apart(a, b))
        distances = calls.distances(left, right) if whole else None
        found.append(
            ModuleStep(
                number=number,
                calls=0 if distances is None else len(distances.places),
                modules=_names(a, left),
                differences=tuple(_as_reported(each, report) for each in every),
            )
        )
    return tuple(found)


def _together(report: DiffReport, number: int) -> tuple[RowPair, ...]:
    """Pairs whose texts are the same before a step."""
    parted = {each.rows: each.step for each in report.tokens}
    return tuple(pair for pair in report.rows if pair.same_prompt and number <= parted.get(pair, number))


def _names(run: RecordedRun, step: Step) -> tuple[str, ...]:
    if step.layout is None:
        return ()
    return tuple(run.header.modules[module].name for module in step.layout.modules)


def _as_reported(found: NumberDifference, report: DiffReport) -> NumberDifference:
    """The first difference as the report has it: there it may be known not to be rounding."""
    first = report.first
    if first is not None and (found.step, found.module, found.quantity) == (
        first.step,
        first.module,
        first.quantity,
    ):
        return first
    return found
