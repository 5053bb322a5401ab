"""Proofs, violations, faults and interventions as notes, each at the stop where it belongs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.view.blocks import Note
from reports.view.figures import count, plural
from reports.view.text import plain
from tracer.schema.run import ModuleInfo, StopName
from tracer.schema.step import Check, CheckName, Intervention, Step, Violation

NOT_RECORDED = Note("The scores of this step were not recorded.", "warning")

_STOP_OF_CHECK: dict[CheckName, StopName] = {
    "positions": "model-call",
    "modules": "layers",
    "finite": "layers",
    "cache": "update",
}
_STOP_OF_INTERVENTION: dict[str, StopName] = {"force": "choice", "ban": "choice", "set": "warpers"}
_PROOF: dict[CheckName, tuple[str, str]] = {
    "positions": ("cache_position, position_ids, attention mask and cache length agree", "rows"),
    "modules": ("every module is called or listed as not called", "modules"),
    "finite": ("no NaN and no infinite value", "module calls"),
    "cache": ("old slots are unchanged, exactly the new tokens' slots were added", "layers"),
}


def findings(step: Step, stop: StopName, modules: Sequence[ModuleInfo]) -> tuple[Note, ...]:
    """Everything that was found at one stop of a step.

    Args:
        step: the step.
        stop: the stop.
        modules: all modules of the run, to name those concerned.
    """
    return tuple(_findings(step, stop, modules))


def alerts(step: Step, modules: Sequence[ModuleInfo] = ()) -> tuple[Note, ...]:
    """Everything of a step that wants attention: violations, faults in recording, interventions.

    Args:
        step: the step.
        modules: all modules of the run, to name those concerned.
    """
    head = step.head
    return (
        *(_violation(violation, modules) for violation in head.violations),
        *(_failed(check) for check in _unexplained(step)),
        *(_error(error.stop, error.message) for error in head.errors),
        *(_intervention(intervention) for intervention in head.interventions),
    )


def faults_of(step: Step, what: str) -> tuple[str, ...]:
    """Faults in recording one thing in a step.

    Args:
        step: the step.
        what: ``lens`` or ``attention``, with which the messages of its probe begin.
    """
    return tuple(error.message for error in step.head.errors if error.message.startswith(f"{what}: "))


def _findings(step: Step, stop: StopName, modules: Sequence[ModuleInfo]) -> Iterator[Note]:
    head = step.head
    for intervention in head.interventions:
        if _STOP_OF_INTERVENTION[intervention.kind] == stop:
            yield _intervention(intervention)
    yield from (_proof(check) for check in head.checks if check.ok and _STOP_OF_CHECK[check.name] == stop)
    yield from (_failed(check) for check in _unexplained(step) if _STOP_OF_CHECK[check.name] == stop)
    for violation in head.violations:
        if _STOP_OF_CHECK[violation.check] == stop:
            yield _violation(violation, modules)
    for error in head.errors:
        if error.stop == stop:
            yield _error(error.stop, error.message)


def _proof(check: Check) -> Note:
    text, what = _PROOF[check.name]
    if check.name == "modules":
        others = ", the others are listed as not called" if check.checked < check.total else ""
        return Note(
            f"checked: {count(check.checked)} of {plural(check.total, 'module')} called{others}", "ok"
        )
    return Note(f"checked: {text} ({count(check.checked)} of {count(check.total)} {what})", "ok")


def _unexplained(step: Step) -> list[Check]:
    """Checks that did not hold and whose violation was described in an earlier step."""
    described = {violation.check for violation in step.head.violations}
    return [check for check in step.head.checks if not check.ok and check.name not in described]


def _failed(check: Check) -> Note:
    return Note(f"check failed again ({check.name}): {_PROOF[check.name][0]}", "error")


def _violation(violation: Violation, modules: Sequence[ModuleInfo]) -> Note:
    places = []
    if violation.row is not None:
        places.append(f"row {violation.row}")
    if violation.layer is not None:
        places.append(f"layer {violation.layer}")
    if violation.module is not None:
        known = violation.module < len(modules)
        places.append(plain(modules[violation.module].name) if known else f"module {violation.module}")
    where = f", {', '.join(places)}" if places else ""
    return Note(f"violation ({violation.check}{where}): {plain(violation.message)}", "error")


def _error(stop: StopName, message: str) -> Note:
    return Note(f"recording failed at {stop}, the generation went on: {plain(message)}", "error")


def _intervention(intervention: Intervention) -> Note:
    return Note(f"changed by the user ({intervention.kind}): {plain(intervention.detail)}", "warning")
