"""Compiled encoding: the same blobs, limits and values as NumPy gives, and no reference kept."""

from __future__ import annotations

import sys
from array import array
from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.tracer.tracefile.samples import steps
from tracer.schema.columns import CacheColumns, ModuleColumns
from tracer.tracefile.encoding.columns import CACHE, FREE, MAX_REPEATED, MODULES, SCORES, ColumnSet
from tracer.tracefile.encoding.native import compiled

pytestmark = [
    pytest.mark.no_transformers,
    pytest.mark.skipif(compiled._native is None, reason="built without a C compiler"),
]

DTYPES = {"i": np.int32, "f": np.float32, "?": np.bool_}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "i": st.one_of(*(st.integers(-(2**bits), 2**bits - 1) for bits in (1, 7, 8, 15, 16, 31))),
    "f": st.one_of(st.sampled_from([0.0, -0.0, np.nan, np.inf, -np.inf]), st.floats(width=32)),
    "?": st.booleans(),
}


def plainly(kind: ColumnSet[Any], record: Any, free: int = FREE) -> bytes:
    """A blob as it is made without compiled code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "_native", None)
        return kind.pack(record, free=free)


@st.composite
def laid_out(draw: st.DrawFn, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same values, one after the other or with other things between them."""
    layout = draw(st.sampled_from(["as it is", "by columns", "reversed", "every third", "in a field"]))
    if layout == "by columns":
        return np.asfortranarray(values)
    if layout == "reversed" and values.ndim:
        return np.ascontiguousarray(values[..., ::-1])[..., ::-1]
    if layout == "every third" and values.ndim:
        wide = np.zeros((*values.shape[:-1], 3 * values.shape[-1]), values.dtype)
        wide[..., ::3] = values
        return wide[..., ::3]
    if layout == "in a field":
        records = np.zeros(values.shape, np.dtype([("odd", np.int8), ("value", values.dtype)], align=True))
        records["value"] = values
        return records["value"]
    return values


@st.composite
def records(draw: st.DrawFn, kind: ColumnSet[Any]) -> Any:
    sizes = {letter: draw(st.integers(0, 5)) for _, _, letters in kind.columns for letter in letters}
    if draw(st.booleans()):
        sizes |= {letter: draw(st.integers(14, 40)) for letter in "CTN"}
    arrays = {}
    for name, code, letters in kind.columns:
        shape = tuple(sizes[letter] for letter in letters)
        # Mostly equal, so that some columns are stored as one value.
        some = hnp.arrays(DTYPES[code], shape, elements=VALUES[code], fill=VALUES[code])
        arrays[name] = draw(laid_out(draw(some)))
    return kind.record(**arrays)


@settings(max_examples=40)
@given(st.data(), st.sampled_from([SCORES, MODULES, CACHE]))
def test_the_blob_is_the_same(data: st.DataObject, kind: ColumnSet[Any]) -> None:
    record, free = data.draw(records(kind)), data.draw(st.sampled_from([0, 100, FREE]))
    blob = compiled.packed(kind.columns, record, free, 0, MAX_REPEATED)
    assert blob is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tracer.tracefile.encoding.columns._MAX_RATIO", 0)
        assert blob == plainly(kind, record, free)


def test_what_is_stored_as_one_value_is_the_same() -> None:
    for count in (15, 16, MAX_REPEATED, MAX_REPEATED + 1):
        norms = np.full((1, 1, 1, count), np.nan, np.float32)
        record = CacheColumns(norms, -norms)
        assert CACHE.pack(record) == plainly(CACHE, record)
        assert CACHE.pack(record, free=0) == plainly(CACHE, record, free=0)


@pytest.mark.parametrize(
    "shapes",
    [
        [1] * 20,
        (2,) * 20,
        np.ones(20, np.int64),
        np.ones(20, np.float64),
        np.ones(20, ">i4"),
        np.ones(20, np.bool_),
        np.ones(20, np.uint32),
        np.frombuffer(b"\0" + bytes(80), np.int32, offset=1),
        array("i", [1] * 20),
    ],
    ids=lambda values: f"{type(values).__name__} {getattr(values, 'dtype', '')}",
)
def test_other_kinds_of_arrays_are_converted(shapes: Any) -> None:
    others = {field.name: np.ones(20, np.float32) for field in fields(ModuleColumns)}
    record = ModuleColumns(**{**others, "shapes": shapes, "nonfinite": np.ones(20, np.int32)})
    assert MODULES.pack(record) == plainly(MODULES, record)


def test_records_that_do_not_fit_are_left_to_the_plain_form() -> None:
    (step,) = steps(1)
    assert step.modules is not None
    one = np.zeros(1, np.int32)
    for odd in (np.int32(3), one[:0], one.reshape(1, 1), None, "text", object()):
        record = replace(step.modules, shapes=odd)  # type: ignore[arg-type]
        assert compiled.packed(MODULES.columns, record, FREE, 1, MAX_REPEATED) is None
    for columns in (
        (("no such field", "i", "C"),),
        (("shapes", "i", "c"),),
        ("shapes",),
        (("mean", "f", "C"),) * 40,
    ):
        assert compiled.packed(columns, step.modules, FREE, 1, MAX_REPEATED) is None  # type: ignore[arg-type]


integers = st.integers(0, 3).flatmap(
    lambda dimensions: hnp.array_shapes(min_dims=dimensions, max_dims=dimensions, min_side=0, max_side=6)
)


@settings(max_examples=60)
@given(st.data(), integers, st.integers(-(2**33), 2**33), st.integers(-(2**33), 2**33))
def test_limits_and_values_are_the_same(
    data: st.DataObject, shape: tuple[int, ...], low: int, high: int
) -> None:
    values = data.draw(laid_out(data.draw(hnp.arrays(np.int32, shape, elements=VALUES["i"]))))
    assert compiled.are_within(values, low, high) is all(
        low <= each <= high for each in values.ravel().tolist()
    )
    expected = set(values.ravel().tolist())
    found = compiled.distinct(values)
    # Rows are written in the order of the set.
    assert (found, list(found)) == (expected, list(expected))


def test_other_arrays_have_no_limits_here() -> None:
    assert compiled.are_within(np.ones(3), 0, 1) is None
    assert compiled.are_within(np.ones(3, np.int64), 0, 1) is None
    assert compiled.distinct(np.array([3, 3, 1], np.int64)) == {1, 3}


def test_nothing_is_kept() -> None:
    shapes = np.arange(64, dtype=np.int32)[::2]
    norms = np.zeros(32, np.float32)
    record = ModuleColumns(shapes, norms, norms, norms, norms, np.zeros(32, np.int32))
    before = sys.getrefcount(shapes)
    for _ in range(10):
        MODULES.pack(record)
        assert compiled.packed(MODULES.columns[:1], record, FREE, 1, MAX_REPEATED)
        compiled.are_within(shapes, 0, 1)
        compiled.distinct(shapes)
    assert sys.getrefcount(shapes) == before
