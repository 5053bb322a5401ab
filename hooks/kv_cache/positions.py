"""The check that cache_position, position_ids, attention mask and cache length agree, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from hooks.integers import Integers
from tracer.schema.checks import Check, Violation

Ints = npt.NDArray[np.int64]


_COMPARED = ("cache_position", "attention_mask", "position_ids")


def check_positions(
    values: Mapping[str, Integers], *, cached: int, new: int, rows: int
) -> tuple[Check, tuple[Violation, ...]]:
    """Compare what a step's inputs say about positions. What an input lacks is not compared.

    Args:
        values: integer model inputs by name, with their shapes.
        cached: positions that were read before the forward pass and are kept.
        new: tokens that go in.
        rows: rows of the batch.
    """
    if not any(name in values for name in _COMPARED):
        reason = "the model is given neither positions nor a mask of integers"
        return Check.not_made("positions", reason, total=rows), ()
    found = tuple(_disagreements(values, cached, new, rows))
    return Check.made("positions", holds=not found, checked=rows, total=rows), found


def _disagreements(values: Mapping[str, Integers], cached: int, new: int, rows: int) -> Iterator[Violation]:
    yield from _wrong_cache_position(values.get("cache_position"), cached, new)
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
    mask = None if mask is None or mask.ndim != 2 else mask
    yield from _wrong_position_ids(ids, mask, cached, rows)


def _wrong_cache_position(position: Integers | None, cached: int, new: int) -> Iterator[Violation]:
    if position is None or (position.shape == (new,) and position.count_from(cached)):
        return
    expected = np.arange(cached, cached + new)
    yield _violation(f"cache_position is {_short(position.array)}, expected {_short(expected)}")


def _wrong_position_ids(
    given: Integers, mask: Integers | None, cached: int, rows: int
) -> Iterator[Violation]:
    """Rows of ``[rows or 1, new]`` position ids that disagree with the mask ``[rows or 1, cached + new]``."""
    shows_all = mask is None or mask.are_all_set()
    if shows_all and given.count_from(cached, rows=given.shape[0]):
        return  # as in most steps: without padding, a row counts on from what is cached
    ids, width = given.array, cached + given.shape[1]
    visible = np.ones((1, width), dtype=bool) if mask is None else mask.array != 0
    # A token's position is the number of visible tokens before it; what padding gets does not matter.
    expected, shown = (np.cumsum(visible, axis=1) - 1)[:, cached:], visible[:, cached:]
    wrong = (ids != expected) & shown
    if not wrong.any():
        return
    size = (rows, ids.shape[1])
    ids, expected, shown, wrong = (np.broadcast_to(each, size) for each in (ids, expected, shown, wrong))
    for row in np.flatnonzero(wrong.any(axis=1)).tolist():
        found, wanted = ids[row][shown[row]], expected[row][shown[row]]
        yield _violation(f"position_ids is {_short(found)}, expected {_short(wanted)}", row)


def _violation(message: str, row: int | None = None) -> Violation:
    return Violation(check="positions", message=message, row=row)


def _short(values: Ints) -> str:
    text = [str(value) for value in values.ravel().tolist()]
    return f"[{', '.join(text if len(text) <= 6 else [*text[:3], '…', *text[-2:]])}]"
