"""Views into recorded tensors are those that NumPy gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tracer.errors import UsageError
from tracer.replay.values.elements import Absent, Elements, OfTokens, Runs, Whole
from tracer.replay.values.tensor import Tensor, tensor
from tracer.schema.tensors import IntValues, TensorInfo

pytestmark = pytest.mark.no_transformers


def spec(*shape: int, dtype: str = "float32") -> TensorInfo:
    return TensorInfo(shape=shape, dtype=dtype, device="cpu")


def whole(array: np.ndarray[Any, Any]) -> Tensor:
    return tensor(spec(*array.shape, dtype=str(array.dtype)), Whole(lambda: array))


def values(view: Tensor) -> np.ndarray[Any, Any]:
    """All elements of a view, one index after the other."""

    def below(part: Tensor) -> Any:
        if not part.shape:
            return part.element()
        return [below(part.at(place)) for place in range(part.indexed)]

    return np.array(below(view)).reshape(view.shape)


SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, max_side=5)


@given(st.data(), SHAPES)
def test_views_are_those_of_numpy(data: st.DataObject, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    keys: Any = arrays.basic_indices(shape, allow_newaxis=True)
    first = data.draw(keys)
    expected = array[first]
    found = whole(array).at(first)
    assert found.shape == expected.shape
    np.testing.assert_array_equal(values(found), expected)
    if expected.ndim:
        second = data.draw(arrays.basic_indices(expected.shape, allow_newaxis=True))
        np.testing.assert_array_equal(values(found.at(second)), expected[second])


@given(arrays.arrays(np.int64, SHAPES, elements=st.integers(-50, 50)))
def test_integers_are_found_in_their_runs(array: np.ndarray[Any, Any]) -> None:
    info = spec(*array.shape, dtype="int64")
    found = tensor(info, Runs(IntValues.encode(array), info.shape))
    np.testing.assert_array_equal(values(found), array)


@given(st.floats(width=32, allow_nan=False))
def test_an_element_is_written_with_all_its_digits(number: float) -> None:
    value = np.float32(number)
    assert np.float32(whole(np.array([value])).at(0).text) == value


def test_one_line() -> None:
    assert whole(np.arange(3, dtype=np.int64)).text == "[3] int64: 0, 1, 2"
    assert whole(np.arange(12, dtype=np.int64).reshape(3, 4)).text == "[3, 4] int64: 0, 1, 2, 3, 4, 5, …"
    assert whole(np.zeros((2, 0), dtype=np.float32)).text == "[2, 0] float32"
    assert whole(np.array(7, dtype=np.int64)).text == "7"
    long = tensor(spec(4), Absent("not saved"), statistics="mean 0.5", remark="approximate")
    assert long.text == "[4] float32: mean 0.5 (not saved)"
    assert long.attribute("values").text == "not saved; approximate"
    assert long.at(2).text == "not in the recording: not saved"


def test_facts() -> None:
    found = whole(np.zeros((2, 3), dtype=np.float32))
    assert [item.name for item in found.names()] == ["shape", "dtype", "device"]
    assert found.attribute("shape").text == "[2, 3]"
    assert found.attribute("shape").at(-1).text == "3"
    assert found.attribute("ndim").text == "2"
    assert [item.name for item in found.page(1, 5)] == ["1"]


def test_only_the_last_positions_are_there() -> None:
    saved = np.arange(4, dtype=np.float32).reshape(2, 1, 2)
    found = tensor(spec(2, 3, 2), Whole(lambda: saved, 2, "only the last position was saved"))
    assert found.at((1, 2, 0)).text == "2.0"
    assert found.at((slice(None), -1)).text == "[2, 2] float32: 0.0, 1.0, 2.0, 3.0"
    assert found.at((0, 0, 0)).text == "not in the recording: only the last position was saved"
    assert "?" in found.at((slice(None), slice(1, None))).text


def test_scores_of_tokens() -> None:
    tokens = np.array([[5, 2, -1]], dtype=np.int32)
    scores = np.array([[1.5, 0.5, 9.0]], dtype=np.float32)
    removed: Elements = OfTokens(tokens, scores, (np.float32(-np.inf),), "")
    assert tensor(spec(1, 6), removed).text == "[1, 6] float32: -inf, -inf, 0.5, -inf, -inf, 1.5"
    unknown = OfTokens(tokens, scores, (None,), "not saved")
    assert tensor(spec(1, 6), unknown).text == "[1, 6] float32: ?, ?, 0.5, ?, ?, 1.5"


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (2, "index 2 is outside a dimension of 2"),
        (-3, "index -3 is outside a dimension of 2"),
        ((0, 0, 0), "3 indices for a tensor of 2 dimensions"),
        ("x", "not with 'x'"),
        (slice("a"), "this slice cannot be taken"),
        (slice(0, 2, 0), "this slice cannot be taken"),
        ((..., ...), "only one"),
        ((0, (1,)), "not with"),
    ],
    ids=str,
)
def test_refusals(index: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        whole(np.zeros((2, 3), dtype=np.float32)).at(index)


def test_an_attribute_that_no_recording_has() -> None:
    with pytest.raises(UsageError, match=r"has \.shape, \.dtype, \.device, \.ndim; not \.sum"):
        whole(np.zeros(2, dtype=np.float32)).attribute("sum")
