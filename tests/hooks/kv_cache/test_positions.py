"""The check of the positions finds what a reading row by row finds."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.integers import Integers
from hooks.kv_cache.positions import check_positions

Drawn = tuple[dict[str, torch.Tensor], int, int, int]


@st.composite
def steps(draw: st.DrawFn) -> Drawn:
    """Inputs of a step, mostly as they should be, some with one number that is another."""
    cached, new, rows = draw(st.integers(0, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    mask = torch.ones((rows, cached + new), dtype=torch.int64)
    for row in range(rows):
        mask[row, : draw(st.integers(0, 2))] = 0
    dtype = draw(st.sampled_from([torch.int64, torch.bool, torch.float32]))
    ids = (mask.cumsum(1) - 1)[:, cached:].contiguous()
    values = {
        "cache_position": torch.arange(cached, cached + new),
        "attention_mask": mask.to(dtype),
        "position_ids": ids[:1] if draw(st.booleans()) else ids,
    }
    for name in draw(st.sets(st.sampled_from(sorted(values)), max_size=2)):
        del values[name]
    if draw(st.booleans()):
        changed = values[draw(st.sampled_from(sorted(values)))].view(-1)
        changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 6))
    return values, cached, new, rows


def rows_that_disagree(values: dict[str, torch.Tensor], cached: int, new: int, rows: int) -> set[int | None]:
    """Rows whose positions are not the number of visible tokens before them; None for all."""
    found: set[int | None] = set()
    position = values.get("cache_position")
    if position is not None and position.tolist() != [*range(cached, cached + new)]:
        found.add(None)
    ids, mask = values.get("position_ids"), values.get("attention_mask")
    if ids is None:
        return found
    for row in range(rows):
        shown = [True] * (cached + new) if mask is None else [value != 0 for value in mask[row].tolist()]
        for place, position_id in enumerate(ids[row % len(ids)].tolist(), start=cached):
            if shown[place] and position_id != sum(shown[:place]):
                found.add(row)
    return found


@settings(max_examples=400, deadline=None)
@given(steps())
def test_it_finds_the_rows_that_disagree(step: Drawn) -> None:
    values, cached, new, rows = step
    given_values = {name: Integers(tensor) for name, tensor in values.items()}
    check, violations = check_positions(given_values, cached=cached, new=new, rows=rows)
    expected = rows_that_disagree(values, cached, new, rows)
    assert {each.row for each in violations} == expected
    assert (check.held, check.failed) == (not expected, bool(expected))
    assert (check.checked, check.total) == (rows, rows)


def test_rows_that_count_on_from_one_another_are_wrong() -> None:
    values = {"position_ids": Integers(torch.tensor([[5], [6]]))}
    check, violations = check_positions(values, cached=5, new=1, rows=2)
    assert check.failed
    assert [each.row for each in violations] == [1]
