"""Findings at which a journey can halt: failed checks, values that are not finite, changes by the user."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from reports.view.stops.checks import STOP_OF_CHECK, STOP_OF_INTERVENTION
from tracer.replay.moment import Moment
from tracer.schema.checks import CheckName
from tracer.schema.run import StopName
from tracer.schema.step import Step


@dataclass(frozen=True)
class Finding:
    """Something in a step that deserves a halt.

    Attributes:
        stop: the stop where it belongs.
        text: what it is.
        row: the row that it concerns; None for all.
        check: the check that failed; None for anything else.
    """

    stop: StopName
    text: str
    row: int | None = None
    check: CheckName | None = None


@dataclass(frozen=True)
class FindingKind:
    """A kind of finding that can be switched on.

    Attributes:
        description: what it means.
        find: the findings of a step.
        default: whether it is on unless a client says otherwise.
    """

    description: str
    find: Callable[[Step], Iterator[Finding]]
    default: bool


def finding_at(moment: Moment, kinds: frozenset[str]) -> tuple[str, Finding] | None:
    """The first finding of a moment, with the name of its kind.

    Args:
        moment: the moment.
        kinds: names of the kinds that are switched on.
    """
    for name in KINDS:
        for found in KINDS[name].find(moment.step) if name in kinds else ():
            if _reached(found.stop, moment) == moment.position.stop:
                return name, found
    return None


def _reached(stop: StopName, moment: Moment) -> StopName:
    """The stop itself; where the run has no line for it, the next that it passes."""
    later = moment.header.stops[moment.header.number(stop) :]
    return next((each for each in later if each in moment.stops), moment.stops[-1])


def _failed_checks(step: Step) -> Iterator[Finding]:
    described: set[CheckName] = set()
    for violation in step.head.violations:
        described.add(violation.check)
        text = f"check failed ({violation.check}): {violation.message}"
        yield Finding(STOP_OF_CHECK[violation.check], text, violation.row, violation.check)
    for check in step.head.checks:
        # The first step that fails describes it; later ones have the check alone.
        if check.failed and check.name not in described:
            yield Finding(STOP_OF_CHECK[check.name], f"check failed again ({check.name})", check=check.name)


def _not_finite(step: Step) -> Iterator[Finding]:
    return (found for found in _failed_checks(step) if found.check == "finite")


def _interventions(step: Step) -> Iterator[Finding]:
    for each in step.head.interventions:
        yield Finding(STOP_OF_INTERVENTION[each.kind], f"changed by the user ({each.kind}): {each.detail}")


KINDS: Mapping[str, FindingKind] = {
    "not finite": FindingKind("A module returned NaN or infinite values.", _not_finite, default=True),
    "check failed": FindingKind(
        "KV cache, positions, module calls or values are not as they must be.", _failed_checks, default=True
    ),
    "intervention": FindingKind(
        "A token was forced or banned, or a setting changed.", _interventions, default=False
    ),
}
"""By the name that a client shows and switches them on with; of two that fit, the first is named."""
