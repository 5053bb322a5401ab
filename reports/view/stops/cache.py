"""The KV cache at one moment."""

from __future__ import annotations

import numpy as np

from reports.view.blocks import CacheRow, CacheTable, Note, Range
from reports.view.figures import plural, span
from reports.view.text import plain
from tracer.schema.arrays import F32
from tracer.schema.cache import CacheState
from tracer.schema.columns import CacheColumns


def cache_table(title: str, state: CacheState, written: CacheColumns | None = None) -> CacheTable:
    """A cache state as a table.

    Args:
        title: which moment.
        state: the state.
        written: norms of the slots that the step wrote.
    """
    return CacheTable(
        title=title,
        kind=plain(state.kind),
        length=state.length,
        layers=state.layers,
        total_bytes=state.nbytes,
        rows=tuple(
            CacheRow(
                layers=span(group.first, group.last),
                count=group.last - group.first + 1,
                key=group.key,
                value=group.value,
                layer_bytes=group.key.nbytes + group.value.nbytes,
            )
            for group in state.groups
        ),
        key_norms=_range(written.key_norm) if written is not None else None,
        value_norms=_range(written.value_norm) if written is not None else None,
    )


def cache_block(title: str, state: CacheState, written: CacheColumns | None = None) -> CacheTable | Note:
    """A cache state as a table of its layers, or in a sentence where it has no slots.

    Args:
        title: which moment.
        state: the state.
        written: norms of the slots that the step wrote.
    """
    if not state.state:
        return cache_table(title, state, written)
    kind = "kept in the model's modules" if state.kind == "modules" else plain(state.kind)
    return Note(
        f"{title}: {kind}, a state of {plural(state.length, 'token')} without keys and values", "fact"
    )


def _range(norms: F32) -> Range | None:
    return Range(float(np.min(norms)), float(np.max(norms))) if norms.size else None
