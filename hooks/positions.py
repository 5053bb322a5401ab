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
    expected = np.arange(cached, cached + new)
    position = values.get("cache_position")
    if position is not None and not np.array_equal(position, expected):
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
    by_row = np.broadcast_to(ids, (rows, ids.shape[-1])) if ids.ndim == 2 else None
    if by_row is None or by_row.shape[1] != new:
        yield _violation(f"position_ids has shape {list(ids.shape)}, expected [{rows}, {new}]")
        return
    for row in range(rows):
        seen = np.ones(cached + new, dtype=bool) if mask is None or mask.ndim != 2 else mask[row] != 0
        # A token's position is the number of visible tokens before it; what padding gets does not matter.
        wanted, visible = (np.cumsum(seen) - 1)[cached:], seen[cached:]
        if not np.array_equal(by_row[row][visible], wanted[visible]):
            yield _violation(
                f"position_ids is {_short(by_row[row][visible])}, expected {_short(wanted[visible])}", row
            )


def _violation(message: str, row: int | None = None) -> Violation:
    return Violation(check="positions", message=message, row=row)


def _short(values: Ints) -> str:
    text = [str(value) for value in values.ravel().tolist()]
    return f"[{', '.join(text if len(text) <= 6 else [*text[:3], '…', *text[-2:]])}]"
