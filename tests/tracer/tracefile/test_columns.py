"""Columnar blobs: what goes in comes out, and damage is noticed."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.tracer.tracefile.samples import assert_same, steps
from tracer.schema.columns import CacheColumns, ModuleColumns, ScoreColumns
from tracer.tracefile.encoding.columns import CACHE, MAX_REPEATED, MODULES, SCORES, ColumnSet

DTYPES = {"i": np.int32, "f": np.float32, "?": np.bool_}


@st.composite
def records(draw: st.DrawFn, kind: ColumnSet[Any]) -> Any:
    letters = sorted({letter for _, _, letters in kind.columns for letter in letters})
    sizes = {letter: draw(st.integers(0, 20), label=letter) for letter in letters}
    arrays = {}
    for name, code, dimensions in kind.columns:
        shape = tuple(sizes[letter] for letter in dimensions)
        arrays[name] = draw(hnp.arrays(DTYPES[code], shape), label=name)
    return kind.record(**arrays)


@given(st.data(), st.sampled_from([SCORES, MODULES, CACHE]))
def test_every_record_comes_back(data: st.DataObject, kind: ColumnSet[Any]) -> None:
    record = data.draw(records(kind))
    assert_same(kind.unpack(kind.pack(record)), record)


@given(st.data(), st.sampled_from([SCORES, MODULES, CACHE]))
def test_a_damaged_blob_gives_a_record_or_a_value_error(data: st.DataObject, kind: ColumnSet[Any]) -> None:
    blob = bytearray(kind.pack(data.draw(records(kind))))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(blob)))
    for damaged in (bytes(blob), bytes(blob[:cut]), bytes(blob) + b"x"):
        try:
            record = kind.unpack(damaged)
        except ValueError:
            continue
        # Whatever was read is consistent, so that it can be written again.
        assert_same(kind.unpack(kind.pack(record)), record)


@given(st.binary(max_size=200), st.sampled_from([SCORES, MODULES, CACHE]))
def test_random_bytes_give_a_value_error(blob: bytes, kind: ColumnSet[Any]) -> None:
    with pytest.raises(ValueError, match="column"):
        kind.unpack(bytes([len(kind.columns)]) + blob[:20])


def test_small_numbers_are_stored_in_few_bytes() -> None:
    calls = 426
    record = ModuleColumns(
        shapes=(np.arange(calls) % 90).astype(np.int32),
        mean=np.full(calls, np.nan, dtype=np.float32),
        std=np.zeros(calls, dtype=np.float32),
        low=np.linspace(0, 1, calls, dtype=np.float32),
        high=np.full(calls, -np.inf, dtype=np.float32),
        nonfinite=np.full(calls, -1, dtype=np.int32),
    )
    blob = MODULES.pack(record)
    assert len(blob) < calls + 4 * calls + 100
    assert_same(MODULES.unpack(blob), record)


@pytest.mark.parametrize("value", [-129, -128, 127, 128, -32769, -32768, 32767, 32768, 2**31 - 1, -(2**31)])
def test_integers_at_the_edges_of_the_narrow_types(value: int) -> None:
    (step,) = steps(1)
    assert step.modules is not None
    shapes = np.arange(step.modules.shapes.size, dtype=np.int32)
    shapes[3] = value
    record = ModuleColumns(
        shapes, *(getattr(step.modules, name) for name in ("mean", "std", "low", "high", "nonfinite"))
    )
    assert_same(MODULES.unpack(MODULES.pack(record)), record)


def test_columns_that_do_not_fit_each_other_are_refused() -> None:
    record = CacheColumns(np.zeros((2, 1, 1, 3), np.float32), np.zeros((2, 1, 1, 4), np.float32))
    with pytest.raises(ValueError, match="size 4 where others have 3"):
        CACHE.pack(record)
    flat = CacheColumns(np.zeros(3, np.float32), np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="1 dimensions instead of 4"):
        CACHE.pack(flat)


def test_a_few_bytes_do_not_unfold_to_gigabytes() -> None:
    huge = (MAX_REPEATED + 1, 1, 1, 1)
    head = struct.pack("<cBB4I", b"f", 1, 4, *huge)
    with pytest.raises(ValueError, match="too many values"):
        CACHE.unpack(b"\x02" + head + head + b"\0" * 8)
    with pytest.raises(ValueError, match="cut off"):
        CACHE.unpack(b"\x02" + head + head + b"\0" * 8, free=1 << 40)
    unlimited = struct.pack("<cBB4I", b"f", 0, 4, *(2**32 - 1,) * 4)
    with pytest.raises(ValueError, match="cut off"):
        CACHE.unpack(b"\x02" + unlimited + unlimited)


def test_arrays_in_any_memory_order_are_stored_row_by_row() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 1, 4)
    record = CacheColumns(np.asfortranarray(values), values[:, :, :, ::-1])
    found = CACHE.unpack(CACHE.pack(record))
    np.testing.assert_array_equal(found.key_norm, values)
    np.testing.assert_array_equal(found.value_norm, values[:, :, :, ::-1])


def test_booleans_are_only_true_or_false() -> None:
    (step,) = steps(1)
    assert step.scores is not None
    blob = bytearray(SCORES.pack(step.scores))
    blob[-1] = 7  # `finished` of the last row stands last
    found: ScoreColumns = SCORES.unpack(bytes(blob))
    assert found.finished.tolist() == [True]
