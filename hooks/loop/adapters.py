"""The PEFT adapters on a model, for the header of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracer.schema.run import AdapterInfo


def describe_adapters(*holders: object) -> tuple[AdapterInfo, ...]:
    """The active adapters.

    Args:
        holders: objects that may know them, the best one first: what was traced, and the model inside.
    """
    for holder in holders:
        configs = getattr(holder, "peft_config", None)
        if isinstance(configs, Mapping) and configs:
            active = _active(holder)
            return tuple(
                _described(str(name), config)
                for name, config in configs.items()
                if active is None or name in active
            )
    return ()


def _active(holder: object) -> list[str] | None:
    """Names of the active adapters; None where that is not known."""
    names = getattr(holder, "active_adapters", None)  # a property in PEFT, a method in transformers
    try:
        names = names() if callable(names) else names
    except ValueError:  # transformers, where PEFT has put the adapter on the model
        return None
    return [*names] if isinstance(names, list | tuple) else None


def _described(name: str, config: Any) -> AdapterInfo:
    kind, rank = getattr(config, "peft_type", None), getattr(config, "r", None)
    base = getattr(config, "base_model_name_or_path", None)
    return AdapterInfo(
        name=name,
        kind=str(getattr(kind, "value", kind)),
        rank=rank if isinstance(rank, int) else None,
        base=None if base is None else str(base),
    )
