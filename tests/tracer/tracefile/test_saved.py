"""Saved tensors in every dtype, lossless."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.tracer.tracefile.samples import header, slots, steps, tensors
from tracer.errors import TraceFileError
from tracer.schema.tensors import ITEM_SIZES
from tracer.tracefile import SavedTensor, TraceFile, TraceWriter, check_file
from tracer.tracefile.encoding.slots import SLOTS, slot_names


@pytest.mark.parametrize("dtype", sorted(ITEM_SIZES))
def test_every_dtype_becomes_an_array(dtype: str) -> None:
    data = bytes(6 * ITEM_SIZES[dtype])
    tensor = SavedTensor(dtype, (2, 3), data)
    assert tensor.nbytes == len(data)
    array = tensor.array()
    assert array.shape == (2, 3)
    assert not array.any()


def test_bfloat16_is_widened_exactly() -> None:
    codes = np.arange(1 << 16, dtype="<u2")
    array = SavedTensor("bfloat16", (1 << 16,), codes.tobytes()).array()
    assert array.dtype == np.float32
    np.testing.assert_array_equal((array.view("<u4") >> 16).astype("<u2"), codes)
    assert array[0x3F80] == 1.0


@pytest.mark.parametrize(
    ("dtype", "code", "value"),
    [
        ("float8_e4m3fn", 0x38, 1.0),
        ("float8_e4m3fn", 0x7E, 448.0),
        ("float8_e4m3fn", 0x01, 2.0**-9),
        ("float8_e4m3fn", 0x7F, float("nan")),
        ("float8_e4m3fn", 0xB8, -1.0),
        ("float8_e5m2", 0x3C, 1.0),
        ("float8_e5m2", 0x7C, float("inf")),
        ("float8_e5m2", 0x01, 2.0**-16),
    ],
)
def test_float8_is_widened_exactly(dtype: str, code: int, value: float) -> None:
    np.testing.assert_array_equal(SavedTensor(dtype, (), bytes([code])).array(), np.float32(value))


def test_a_scalar_and_an_empty_tensor() -> None:
    assert SavedTensor("float64", (), np.float64(2.5).tobytes()).array() == 2.5
    assert SavedTensor("float32", (3, 0), b"").array().shape == (3, 0)
    assert [part.nbytes for part in SavedTensor("float32", (3, 0), b"").parts(10)] == [0]


def test_parts_cover_the_bytes_in_order() -> None:
    data = bytes(range(40))
    parts = list(SavedTensor("float32", (10,), memoryview(data)).parts(16))
    assert [part.nbytes for part in parts] == [16, 16, 8]
    assert b"".join(parts) == data


def test_any_contiguous_buffer_will_do() -> None:
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    np.testing.assert_array_equal(SavedTensor("float32", (2, 3), values.data).array(), values)


@pytest.mark.parametrize(
    ("dtype", "shape", "size"), [("float32", (2,), 7), ("float32", (-1,), 4), ("float3", (1,), 1)]
)
def test_what_does_not_fit_is_refused(dtype: str, shape: tuple[int, ...], size: int) -> None:
    with pytest.raises(ValueError, match=r"needs 8 bytes, not 7|unknown kind of tensor"):
        SavedTensor(dtype, shape, bytes(size))


def test_slots_of_all_layers_have_names_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    with TraceWriter(path) as writer:
        writer.begin_run(header())
        for step in steps(2):
            writer.write_step(step, (), {**tensors(step.number), SLOTS: slots(step.number, layers=3)})
    assert check_file(path).problems == ()
    assert check_file(path).runs[0].tensors == 2 * (2 + 6)
    with TraceFile(path) as recording:
        (run,) = recording.runs
        names = sorted({*tensors(), *slot_names(3)})
        assert [*run.tensor_names(2)] == names
        for number in (1, 2, 1):
            together = slots(number, layers=3).array()
            for place, name in enumerate(slot_names(3)):
                assert run.tensor_layout(number, name) == ("float32", (2, 3, 1, 4))
                np.testing.assert_array_equal(run.tensor(number, name), together[place])
        for missing in ("kv/3/key", "kv/0/keys", "kv/00/key", "kv/-1/key", "kv/1", "hidden/7"):
            with pytest.raises(KeyError):
                run.saved_tensor(1, missing)
            with pytest.raises(KeyError):
                run.tensor_layout(1, missing)


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (), (1 << 40, 0)])
def test_slots_that_are_not_those_of_layers_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    with TraceWriter(path) as writer:
        writer.begin_run(header())
        (step,) = steps(1)
        writer.write_step(step, (), {SLOTS: SavedTensor("float32", shape, bytes(4 * math.prod(shape)))})
    message = "tensor kv of step 1: it is not made of the keys and values of layers"
    with TraceFile(path) as recording:
        (run,) = recording.runs
        for use in (run.tensor_names, partial(run.saved_tensor, name="kv/0/key")):
            with pytest.raises(TraceFileError, match=message):
                use(1)
    assert any(message in problem for problem in check_file(path).problems)
