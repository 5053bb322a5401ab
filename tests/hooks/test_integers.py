"""Integer tensors give the runs of ``IntValues.encode`` and the answers of NumPy, compiled and plain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hooks.integers import Integers, int_values, nonzero
from tracer.schema.tensors import MAX_RUNS, IntValues

DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)

often = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Stretches with few differences, some of them one behind another, in any shape and layout."""
    values: list[int] = []
    for start, step, count in draw(
        st.lists(st.tuples(st.integers(-3, 3), st.integers(-1, 2), st.integers(1, 5)), max_size=5)
    ):
        values += [start + step * place for place in range(count)]
    tensor = torch.tensor(values, dtype=torch.int64).to(draw(st.sampled_from(DTYPES)))
    if len(values) % 2 == 0:
        tensor = tensor.reshape(2, -1)
        tensor = tensor.T if draw(st.booleans()) else tensor
    return tensor


@often
@given(tensors())
def test_the_runs_are_those_of_the_array(both_ways: str, tensor: torch.Tensor) -> None:
    assert int_values(tensor) == IntValues.encode(tensor.numpy())


@often
@given(tensors(), st.integers(-3, 3))
def test_rules_are_told_what_the_array_says(both_ways: str, tensor: torch.Tensor, start: int) -> None:
    values, array = Integers(tensor), tensor.numpy()
    assert values.count_from(start) == (array.ravel() == np.arange(start, start + array.size)).all()
    assert values.are_all_set() == (array != 0).all()
    assert nonzero(tensor) == tuple(np.flatnonzero(array).tolist())
    assert (values.shape, values.ndim) == (array.shape, array.ndim)


@often
@given(st.integers(-2, 2), st.integers(0, 3), st.integers(0, 3), st.integers(-1, 1))
def test_rows_that_count_from_the_same_value(
    both_ways: str, start: int, rows: int, length: int, shift: int
) -> None:
    counted = torch.arange(start, start + length).repeat(rows, 1)
    counted[rows // 2 :] += shift
    expected = not shift or not counted[rows // 2 :].numel()
    assert Integers(counted).count_from(start, rows=rows) == expected


@pytest.mark.parametrize(
    "values",
    [
        [-(2**63), 2**63 - 1, -(2**63)],  # whose differences wrap around
        [2**63 - 1, -(2**63), -(2**63) + 1],
        [7],
        [],
        [[[5]]],
    ],
)
def test_values_at_the_edges(both_ways: str, values: list[int]) -> None:
    tensor = torch.tensor(values, dtype=torch.int64)
    assert int_values(tensor) == IntValues.encode(tensor.numpy())


def test_more_runs_than_are_recorded(both_ways: str) -> None:
    tensor = torch.randint(0, 1000, (3 * MAX_RUNS,), generator=torch.Generator().manual_seed(0))
    found = int_values(tensor)
    assert found == IntValues.encode(tensor.numpy())
    assert len(found.runs) == MAX_RUNS
    assert found.omitted


@pytest.mark.parametrize("values", [[0.5, 1.0], [1.0, 1.0], [0.0, 1.0]])
def test_a_mask_of_floats_is_looked_at_as_it_is(both_ways: str, values: list[float]) -> None:
    mask = Integers(torch.tensor([values]))
    assert mask.record is None
    assert mask.are_all_set() == all(values)


def test_a_subclass_keeps_its_own_way_to_its_values(both_ways: str) -> None:
    class Doubled(torch.Tensor):
        def numpy(self, *, force: bool = False) -> object:  # type: ignore[override]
            return 2 * self.as_subclass(torch.Tensor).numpy(force=force)

    tensor = torch.tensor([1, 2, 3]).as_subclass(Doubled)
    assert int_values(tensor) == IntValues.encode([2, 4, 6])
