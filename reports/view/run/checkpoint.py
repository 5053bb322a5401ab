"""What a model was loaded from: the adapters on it, and what was wrong with its checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.view.figures import plural
from reports.view.run.named_value import NamedValue
from reports.view.text import plain
from tracer.schema.run import AdapterInfo, CheckpointFaults, ModelInfo

_NAMED = 3
"""Weights of each kind that are named."""


def checkpoint_values(model: ModelInfo) -> Iterator[NamedValue]:
    """Faults and adapters, one line each.

    Args:
        model: metadata of the model.
    """
    if model.checkpoint_faults is not None:
        yield from _faults(model.checkpoint_faults)
    for adapter in model.adapters:
        yield NamedValue(f"adapter {plain(adapter.name)}", _adapter(adapter), _base(adapter))


def _adapter(adapter: AdapterInfo) -> str:
    rank = "" if adapter.rank is None else f", rank {adapter.rank}"
    return f"{plain(adapter.kind)}{rank}"


def _base(adapter: AdapterInfo) -> str | None:
    return None if adapter.base is None else f"made for {plain(adapter.base)}"


def _faults(faults: CheckpointFaults) -> Iterator[NamedValue]:
    kinds = (
        ("! missing weights", faults.missing, "the checkpoint lacks them; they are random"),
        (
            "! weights of another shape",
            faults.mismatched,
            "the checkpoint's do not fit; they are random",
        ),
        ("! unknown weights", faults.unexpected, "the model has no such weights; they are not used"),
    )
    for name, keys, meaning in kinds:
        if keys:
            yield NamedValue(name, _listed(keys), meaning)
    if faults.generation_config is not None:
        meaning = "the generation settings that the model brings could not be read"
        yield NamedValue("! generation settings", plain(faults.generation_config), meaning)


def _listed(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return f"{plural(len(keys), 'weight')}: {', '.join(plain(key) for key in keys[:_NAMED])}{more}"
