"""Checks, violations, capture faults and interventions as notes, each at the stop where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from reports.view.blocks import Note
from reports.view.figures import count, plural, tensor
from reports.view.layers import module_names
from reports.view.not_seen import not_seen_views
from reports.view.text import plain
from tracer.schema.changes import ChangedOutput, Intervention
from tracer.schema.checks import Check, CheckName, Violation
from tracer.schema.faults import CaptureError, OptionalCapture, Uncaptured
from tracer.schema.run import ModuleInfo, RunEnd, RunHeader, StopName
from tracer.schema.step import Step
from tracer.schema.tensors import TensorInfo

_Item = TypeVar("_Item")

MAX_NOTES = 32
"""Most notes of a kind at one place; a step may have a violation for each layer and row."""

_CHANGES_SHOWN = 3
"""Outputs changed by hooks that are shown as they were; the others are named."""

NOT_RECORDED = Note("The scores of this step were not recorded.", "warning")

STOP_OF_CHECK: Mapping[CheckName, StopName] = {
    "positions": "model-call",
    "modules": "layers",
    "finite": "layers",
    "cache": "update",
    "contrast": "contrast",
    "beams": "beams",
    "constraints": "beams",
    "assisted": "choice",
    "ranking": "choice",
    "selection": "select",
}
"""The stop at which a check of a step is shown."""

STOP_OF_INTERVENTION: Mapping[str, StopName] = {
    "force": "choice",
    "ban": "choice",
    "set": "warpers",
    "ids": "processors",
}
"""The stop at which an intervention is shown, by its kind."""

_CHECKED: dict[CheckName, tuple[str, str]] = {
    "positions": ("cache_position, position_ids, attention mask and cache length agree", "rows"),
    "modules": ("every module is called or listed as not called", "modules"),
    "finite": ("no NaN and no infinite value", "module calls"),
    "cache": ("old slots are unchanged, exactly the new tokens' slots were added", "layers"),
    "beams": ("beams and hypotheses are those that the scores lead to", "batch rows"),
    "constraints": ("how far the beams have met their constraints, worked out again from their ids", "beams"),
    "returned": ("what was returned is what the steps lead to", "sequences"),
    "ranking": ("the candidate taken is the best, its ranking computed again", "rows"),
    "selection": (
        "each candidate found the same cache and added a slot, and that of the one taken stayed",
        "rows",
    ),
    "assisted": ("the proposals accepted are those that have to be, computed again", "proposals"),
    "contrast": ("the scores are the contrast of the two layers, computed again", "rows"),
}


_CAPTURES: dict[OptionalCapture, str] = {
    "lens": "logit lens",
    "attention": "attention weights",
    "kv": "KV cache",
}


def stop_notes(step: Step, stop: StopName, header: RunHeader) -> tuple[Note, ...]:
    """Notes for one stop of a step: changes, checks, violations, missing captures, faults, a failure.

    Args:
        step: the step.
        stop: the stop.
        header: the run's header.
    """
    head, modules = step.head, header.modules
    changes = [
        each for each in head.interventions if header.own_stop(STOP_OF_INTERVENTION[each.kind]) == stop
    ]
    return (
        *_first(_intervention, changes),
        *_check_notes(step, stop),
        *_first(
            partial(_violation, modules),
            [each for each in head.violations if STOP_OF_CHECK[each.check] == stop],
        ),
        *_first(uncaptured_note, [each for each in head.uncaptured if each.stop == stop]),
        *_first(_fault, [error for error in head.errors if error.stop == stop]),
        *(_about_modules(step, modules) if stop == "layers" else ()),
        *_failure_notes(step, "failed here", modules, stop),
    )


def alerts(step: Step, modules: Sequence[ModuleInfo] = ()) -> tuple[Note, ...]:
    """Everything in a step that needs attention: failure, violations, missing captures, faults, changes.

    Args:
        step: the step.
        modules: all modules of the run, to name those concerned.
    """
    head = step.head
    return (
        *_failure_notes(step, f"the run failed at {head.failure.stop}" if head.failure else "", modules),
        *_first(partial(_violation, modules), head.violations),
        *(_failed(check) for check in _unexplained(step)),
        *_first(uncaptured_note, head.uncaptured),
        *_first(_fault, head.errors),
        *_first(_intervention, head.interventions),
    )


def end_notes(end: RunEnd) -> tuple[Note, ...]:
    """The checks of what a run has returned.

    Args:
        end: its end record.
    """
    return (
        *map(_passed, (check for check in end.checks if check.held)),
        *map(_not_made, (check for check in end.checks if check.result == "not made")),
        *_first(partial(_violation, ()), end.violations),
    )


def _about_modules(step: Step, modules: Sequence[ModuleInfo]) -> Iterator[Note]:
    """What else a reader of the module calls has to know: changed outputs, and modules out of sight."""
    changed = [each for each in step.head.changed_by_hook if each.module < len(modules)]
    if changed:
        names = module_names([modules[each.module].name for each in changed])
        yield Note(f"changed by a hook: {names}; recorded is what the caller got", "fact")
    for each in changed[:_CHANGES_SHOWN]:
        if each.before is not None:
            yield Note(f"before the hook: {_before(each, each.before, modules)}", "fact")
    for view in not_seen_views(step.head.not_seen, modules):
        yield Note(f"{view.title}, from this step on: {view.names}", "fact")


def _before(changed: ChangedOutput, info: TensorInfo, modules: Sequence[ModuleInfo]) -> str:
    """What the module itself gave; without values where none were taken."""
    known = [(name, getattr(changed, name)) for name in ("mean", "std", "low", "high")]
    values = [f"{name} {value:.4g}" for name, value in known if value is not None]
    return ", ".join([f"{_module_name(changed.module, modules)} {tensor(info)}", *values])


def _failure_notes(
    step: Step, what: str, modules: Sequence[ModuleInfo], stop: StopName | None = None
) -> Iterator[Note]:
    """What ended the run in this step, if anything did; with a stop, only if it came up there."""
    failure = step.head.failure
    if failure is None or stop not in (None, failure.stop):
        return
    where = "" if failure.module is None else f", in {_module_name(failure.module, modules)}"
    yield Note(f"{what}{where}: {plain(failure.message)}", "error")


def _module_name(index: int, modules: Sequence[ModuleInfo]) -> str:
    if index >= len(modules):
        return f"module {index}"
    return plain(modules[index].name) or "the model itself"


def _first(describe: Callable[[_Item], Note], items: Sequence[_Item]) -> Iterator[Note]:
    """Notes of as many as anyone reads, and how many there are beyond."""
    yield from map(describe, items[:MAX_NOTES])
    if len(items) > MAX_NOTES:
        yield replace(describe(items[MAX_NOTES]), text=f"and {count(len(items) - MAX_NOTES)} more like these")


def _check_notes(step: Step, stop: StopName) -> Iterator[Note]:
    """Checks that belong to a stop: passed, not made, failed again."""
    checks = [check for check in step.head.checks if STOP_OF_CHECK[check.name] == stop]
    for draw, found in (
        (_passed, [check for check in checks if check.held]),
        (_not_made, [check for check in checks if check.result == "not made"]),
        (_failed, [check for check in _unexplained(step) if check in checks]),
    ):
        yield from map(draw, found)


def _passed(check: Check) -> Note:
    text, what = _CHECKED[check.name]
    if check.name == "modules":
        others = ", the others are listed as not called" if check.checked < check.total else ""
        return Note(
            f"checked: {count(check.checked)} of {plural(check.total, 'module')} called{others}", "ok"
        )
    note = f"; {plain(check.note)}" if check.note else ""
    return Note(f"checked: {text} ({count(check.checked)} of {count(check.total)} {what}){note}", "ok")


def _not_made(check: Check) -> Note:
    note = f" ({plain(check.note)})" if check.note else ""
    return Note(f"not checked: {_CHECKED[check.name][0]}: {plain(check.reason or 'no reason given')}{note}")


def _unexplained(step: Step) -> list[Check]:
    """Checks that failed without a violation in this step: an earlier step has described it."""
    described = {violation.check for violation in step.head.violations}
    return [check for check in step.head.checks if check.failed and check.name not in described]


def _failed(check: Check) -> Note:
    return Note(f"check failed again ({check.name}): {_CHECKED[check.name][0]}", "error")


def _violation(modules: Sequence[ModuleInfo], violation: Violation) -> Note:
    places = []
    if violation.row is not None:
        places.append(f"row {violation.row}")
    if violation.layer is not None:
        places.append(f"layer {violation.layer}")
    if violation.module is not None:
        places.append(_module_name(violation.module, modules))
    where = f", {', '.join(places)}" if places else ""
    return Note(f"violation ({violation.check}{where}): {plain(violation.message)}", "error")


def uncaptured_note(missing: Uncaptured) -> Note:
    """What a capture that could not be had lacks, and why.

    Args:
        missing: the capture.
    """
    return Note(f"not captured ({_CAPTURES[missing.capture]}): {plain(missing.reason)}", "warning")


def _fault(error: CaptureError) -> Note:
    what = f"recording the {error.capture}" if error.capture else "recording"
    return Note(f"{what} failed at {error.stop}, the generation went on: {plain(error.message)}", "error")


def _intervention(intervention: Intervention) -> Note:
    return Note(f"changed by the user ({intervention.kind}): {plain(intervention.detail)}", "warning")
