"""Modules of which something is not recorded, and why, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reports.view.layers import module_names
from tracer.schema.run import ModuleInfo, NotSeen, NotSeenReason

_WORDS: dict[NotSeenReason, tuple[str, str]] = {
    "compiled": ("not seen: compiled", "they run inside a compiled graph; all else is recorded"),
    "scripted": ("not seen: TorchScript", "they run inside TorchScript; all else is recorded"),
    "distributed": (
        "no statistics: distributed",
        "their outputs belong to several processes, and cannot be read in this one",
    ),
    "spread": (
        "recorded in part: distributed",
        "their outputs are spread over processes; statistics and saved values are of this one's part",
    ),
}


@dataclass(frozen=True)
class NotSeenView:
    """Modules with one reason.

    Attributes:
        title: what is not recorded, and why, in few words.
        names: the modules, numbers folded where they are many.
        meaning: the reason in plain words.
    """

    title: str
    names: str
    meaning: str


def not_seen_views(found: Sequence[NotSeen], modules: Sequence[ModuleInfo]) -> Iterator[NotSeenView]:
    """One view a reason.

    Args:
        found: the modules.
        modules: all modules of the run, to name them.
    """
    for reason, (title, meaning) in _WORDS.items():
        indexes = [each.module for each in found if each.reason == reason]
        names = [modules[index].name for index in indexes if index < len(modules)]
        if names:
            yield NotSeenView(title, module_names(names), meaning)
