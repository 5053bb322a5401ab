"""Checks that a repetition runs what was recorded: the model, processors and criteria, the versions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hooks.instance_class import instance_class, put_class, take_class
from hooks.loop.model_info import describe_model, versions
from hooks.loop.processors import describe_criteria, describe_processors
from hooks.loop.weights import fingerprint
from hooks.method_layer import Handler
from tracer.analysis.rerun_plan import RerunPlan
from tracer.errors import UsageError
from tracer.library.release import installed_release
from tracer.tracefile import TraceRun


@contextlib.contextmanager
def checking_pipeline(
    run: TraceRun, model: Any, *, extra_criteria: int, settings_changed: bool = False
) -> Iterator[None]:
    """Compare the processors and criteria that follow from the settings with the recorded ones.

    A trace does not hold objects that the user passed to ``generate()`` beside the settings; their absence
    is detected here.

    Args:
        run: the recorded run.
        model: the model that will generate.
        extra_criteria: number of criteria that the repetition adds at the end of the list.
        settings_changed: whether other settings are asked for, so that only what is not of transformers is
            missed.

    Raises:
        UsageError: from ``generate()``, if they differ.
    """

    def checked(sample: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if settings_changed:
            _require_of_library(run)
            return sample(*args, **kwargs)
        warpers = kwargs.get("logits_warper") if kwargs["generation_config"].do_sample else None
        found = [each.class_name for each in describe_processors(kwargs["logits_processor"], warpers)]
        criteria = [each.class_name for each in describe_criteria(kwargs["stopping_criteria"])]
        _require_same("processors", [each.class_name for each in run.header.processors], found)
        recorded = [each.class_name for each in run.header.criteria]
        _require_same("stopping criteria", recorded, criteria[: len(criteria) - extra_criteria])
        return sample(*args, **kwargs)

    with _seeing(model, run.header.loop, checked, on_class=installed_release().on_class):
        yield


@contextlib.contextmanager
def _seeing(model: Any, method: str, handler: Handler, *, on_class: bool) -> Iterator[None]:
    """Let a handler see the calls of the loop, where the release looks it up."""
    if on_class:
        made = instance_class(model, {method: handler})
        put_class(model, made)
        try:
            yield
        finally:
            take_class(model, made)
    else:
        inner = getattr(model, method)
        setattr(model, method, lambda *args, **kwargs: handler(inner, args, kwargs))
        try:
            yield
        finally:
            delattr(model, method)


def _require_of_library(run: TraceRun) -> None:
    """Refuse a run whose caller passed processors or criteria of its own."""
    for what, found in (("processors", run.header.processors), ("stopping criteria", run.header.criteria)):
        own = [each.class_name for each in found if not each.of_transformers]
        _require_same(what, own, [])


def _require_same(what: str, recorded: list[str], found: list[str]) -> None:
    if recorded != found:
        own = [name for name in recorded if name not in found]
        raise UsageError(
            f"This run cannot be repeated: its {what} do not follow from its settings"
            + (f" ({', '.join(own)} came from the caller)." if own else ".")
        )


def require_same_model(plan: RerunPlan, model: Any) -> None:
    """Refuse a model other than the recorded one.

    Raises:
        UsageError: naming what differs.
    """
    found = describe_model(model, plan.model.name)
    for attribute, what in (
        ("class_name", "class"),
        ("parameters", "number of parameters"),
        ("dtype", "dtype"),
        ("attention", "attention"),
        ("vocab_size", "vocabulary"),
        ("tree", "module tree"),
    ):
        before, now = getattr(plan.model, attribute), getattr(found, attribute)
        if attribute == "tree":
            before, now = _without_cache(before), _without_cache(now)
        if before != now:
            values = "" if attribute == "tree" else f" ({now}, not {before})"
            raise UsageError(f"This run cannot be repeated: the model has another {what}{values}.")


def _without_cache(tree: str) -> str:
    """A module tree without the cache that ``generate()`` leaves in the model, where a cache is a module."""
    return "\n".join(line for line in tree.split("\n") if not line.startswith("  (_cache): "))


@dataclass(frozen=True)
class WeightsComparison:
    """Whether a model has the weights that a run had.

    Attributes:
        same: None where they could not be compared.
        note: why they could not be; None where they could.
    """

    same: bool | None
    note: str | None = None


def compare_weights(run: TraceRun, model: Any) -> WeightsComparison:
    """Compare the model's weights with those that the run had, by their fingerprints.

    Args:
        run: the recorded run.
        model: the model that will generate, as it was loaded.
    """
    recorded = run.header.weights
    if recorded is None:
        return WeightsComparison(None, "the weights were not compared: the trace has no fingerprint of them")
    found = fingerprint(model) if recorded.digest is not None else recorded
    if found.digest is None:
        return WeightsComparison(None, f"the weights were not compared: {found.not_taken}")
    return WeightsComparison(found.digest == recorded.digest)


def version_differences(run: TraceRun) -> tuple[str, ...]:
    """Versions here that differ from those of the recording, one line each."""
    recorded, now = run.header.versions, versions()
    return tuple(
        f"recorded with {name} {recorded[name]}, repeated with {now[name]}"
        for name in recorded
        if name in now and now[name] != recorded[name]
    )
