"""Proof that cache_position, position_ids, attention mask and cache length tell one story, per row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from tracer.schema.step import Check, Violation

Ints = npt.NDArray[np.int64]


def check_positions(
    values: Mapping[str, Ints], *, cached: int, new: int, rows: int
) -> tuple[Check, tuple[Violation, ...]]:
    """Compare what a step's inputs say about positions. What an input lacks is not compared.

    Args:
        values: integer model inputs by name, with their shapes.
        cached: slots in the cache before the forward pass.
        new: tokens that go in.
        rows: rows of the batch.
    """
    found = tuple(_disagreements(values, cached, new, rows))
    bad = {violation.row for violation in found}
    checked = rows if values else 0
    return Check(name="positions", ok=not bad, checked=checked, total=rows), found


def _disagreements(values: Mapping[str, Ints], cached: int, new: int, rows: int) -> Iterator[Violation]:
    position = values.get("cache_position")
    if position is not None:
        expected = np.arange(cached, cached + new)
        if position.shape != expected.shape or (position != expected).any():
            yield _violation(f"cache_position is {_short(position)}, expected {_short(expected)}")
    mask = values.get("attention_mask")
    if mask is not None and mask.ndim == 2 and mask.shape[1] != cached + new:
        yield _violation(
            f"attention_mask covers {mask.shape[1]} tokens, cache and new tokens are {cached + new}"
        )
        mask = None
    ids = values.get("position_ids")
    if ids is None:
        return
    if ids.ndim != 2 or ids.shape[0] not in (1, rows) or ids.shape[1] != new:
        yield _violation(f"position_ids has shape {list(ids.shape)}, expected [{rows}, {new}]")
        return
    seen = np.ones((1, cached + new), dtype=bool) if mask is None or mask.ndim != 2 else mask != 0
    # A token's position is the number of visible tokens before it; what padding gets does not matter.
    wanted, visible = (np.cumsum(seen, axis=1) - 1)[:, cached:], seen[:, cached:]
    wrong = (ids != wanted) & visible
    if not wrong.any():
        return
    by_row, wanted, visible = (np.broadcast_to(each, (rows, new)) for each in (ids, wanted, visible))
    for row in np.flatnonzero(np.broadcast_to(wrong, (rows, new)).any(axis=1)).tolist():
        shown = visible[row]
        yield _violation(
            f"position_ids is {_short(by_row[row][shown])}, expected {_short(wanted[row][shown])}", row
        )


def _violation(message: str, row: int | None = None) -> Violation:
    return Violation(check="positions", message=message, row=row)


def _short(values: Ints) -> str:
    text = [str(value) for value in values.ravel().tolist()]
    return f"[{', '.join(text if len(text) <= 6 else [*text[:3], '…', *text[-2:]])}]"
