from __future__ import annotations

import numpy as np
import pytest

from reports.view import figures
from reports.view.stops.values import row_values, values_text
from tracer.schema.tensors import IntValues, NamedTensor, TensorInfo


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.80667, "0.8067"),
        (1.0, "1.0000"),
        (0.0, "0.0000"),
        (0.99998, ">0.9999"),
        (0.99994, "0.9999"),
        (0.00002, "<0.0001"),
        (0.0001, "0.0001"),
    ],
)
def test_a_probability_is_never_rounded_to_certainty(value: float, text: str) -> None:
    assert figures.probability(value) == text


def test_scores_have_four_digits() -> None:
    assert figures.score(25.125 / 0.7) == "35.8929"
    assert figures.score(float("-inf")) == "-inf"


def test_shapes_and_tensors() -> None:
    assert figures.shape((1, 29, 3584)) == "[1, 29, 3584]"
    info = TensorInfo(shape=(1, 29, 3584), dtype="bfloat16", device="cuda:0")
    assert figures.tensor(info) == "[1, 29, 3584]  bfloat16  cuda:0"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (59392, "58.0 KiB"), (3 * 1024**5, "3072.0 TiB")]
)
def test_byte_sizes(size: int, text: str) -> None:
    assert figures.byte_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "250 ms"), (0.0412, "41.2 ms"), (2.049, "2.05 s"), (200.4, "3 min 20 s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (list(range(29)), "0 … 28"),
        ([1] * 29, "1 (29 times)"),
        ([0, 0, 0, 0, 1, 1, 1, 1, 1], "0 (4 times), 1 (5 times)"),
        ([7], "7"),
        ([198, 77091], "198, 77091"),
        ([5, 10, 15, 20, 25], "5, 10, 15, 20, 25"),
        ([], ""),
    ],
)
def test_values_in_one_line(values: list[int], text: str) -> None:
    assert values_text(IntValues.encode(values)) == text


def test_many_values_keep_both_ends() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 150_000, 100)
    text = values_text(ids)
    assert text.startswith(f"{ids[0]}, {ids[1]}, ")
    assert text.endswith(f"…, {ids[-3]}, {ids[-2]}, {ids[-1]}")


def test_values_that_were_not_recorded_are_counted() -> None:
    values = IntValues(runs=((3, 0, 1),), omitted=1200)
    assert values_text(values) == "3, … (1,200 more not recorded)"


def test_a_row_of_a_batch() -> None:
    info = TensorInfo(shape=(2, 3), dtype="int64", device="cpu")
    tensor = NamedTensor(name="input_ids", info=info, values=IntValues.encode([1, 2, 3, 4, 5, 9]))
    row = row_values(tensor, 1, 2)
    assert row is not None
    assert row.tolist() == [4, 5, 9]


def test_a_tensor_without_batch_dimension_is_whole_for_every_row() -> None:
    info = TensorInfo(shape=(3,), dtype="int64", device="cpu")
    tensor = NamedTensor(name="cache_position", info=info, values=IntValues.encode([0, 1, 2]))
    row = row_values(tensor, 1, 2)
    assert row is not None
    assert row.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.02134, "-0.0213"), (14.21, "14.2"), (-1114.0, "-1110"), (24_911.0, "24900"), (1.31e6, "1.31e+06")],
)
def test_statistics_have_three_digits(value: float, text: str) -> None:
    assert figures.statistic(value) == text
