"""One kernel for all outputs of a step, run by Triton's interpreter, says what joining them does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.modules import pointer_table, tape
from hooks.modules.pointer_table import KERNEL, Kernel, KernelError, tables
from hooks.modules.statistics import Statistics, join
from hooks.modules.tape import PlainTape, PlainWatched, _plain_tapes
from hooks.native.compiled import TapeParts
from tests.support.models import DEVICE, batch, collected, generate, reduced_calls, tiny_model, watching

pytest.importorskip("triton", reason="Triton comes with torch's builds for CUDA")

NAN, INF = float("nan"), float("inf")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.fixture(autouse=True)
def _everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pointer_table, "_DEVICE_TYPES", {DEVICE})
    monkeypatch.setattr(KERNEL, "_usable", True)


def by_kernel(tensors: list[torch.Tensor]) -> Statistics:
    assert all(KERNEL.takes(tensor) for tensor in tensors)
    (table,) = tables(tensors, range(len(tensors)))
    assert table.members == [*range(len(tensors))]
    with np.errstate(all="ignore"):  # the interpreter computes with NumPy
        return table.complete(table.reduce(tensors).cpu().numpy())


def by_joining(tensors: list[torch.Tensor]) -> Statistics:
    statistics = np.full((4, len(tensors)), NAN, dtype=np.float32)
    for joined in join(tensors):
        statistics[:, joined.members] = joined.complete(joined.reduce(tensors).cpu().numpy())
    return statistics


def assert_same(tensors: list[torch.Tensor]) -> None:
    found, expected = by_kernel(tensors), by_joining(tensors)
    np.testing.assert_array_equal(found[2:], expected[2:])
    for at, tensor in enumerate(tensors):
        scale = tensor.float().abs().nan_to_num(0, 0, 0).max().item()
        np.testing.assert_allclose(found[:2, at], expected[:2, at], rtol=1e-5, atol=1e-6 * scale)


sizes = st.lists(st.integers(1, 40), min_size=1, max_size=3)


@given(st.lists(st.tuples(sizes, st.sampled_from(DTYPES)), min_size=1, max_size=6), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_any_outputs(shapes: list[tuple[list[int], torch.dtype]], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    assert_same(
        [torch.randn(shape, generator=generator).to(DEVICE, dtype) * 3 + 1 for shape, dtype in shapes]
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 4095, 4096, 4097, 10_000])
def test_parts_end_where_a_tensor_does(dtype: torch.dtype, count: int) -> None:
    values = torch.randn(count + 2, generator=torch.Generator().manual_seed(count)).to(DEVICE, dtype)
    values[0] = values[-1] = 1000  # neighbours in memory
    assert_same([values[1:-1], values[:1]])


@pytest.mark.parametrize(
    "values",
    [
        [NAN],
        [1.0, NAN, 2.0],
        [INF, 1.0],
        [-INF, 1.0],
        [INF, -INF],
        [INF, NAN],
        [0.0, -0.0],
        [1e30, -1e30, 1e30],
        [3e38, -3e38],
        [1e-40, 2e-40],
        [1e4 + 0.01, 1e4 - 0.01],
        [5.0] * 100,
    ],
    ids=lambda values: str(values[:3]),
)
def test_values_of_any_kind(values: list[float]) -> None:
    assert_same([torch.tensor(values, device=DEVICE), torch.tensor([*values, *[0.5] * 5000], device=DEVICE)])


def test_a_small_deviation_from_a_large_mean_is_kept() -> None:
    values = 1000 + torch.randn(20_000, generator=torch.Generator().manual_seed(1)).to(DEVICE) * 1e-2
    found = by_kernel([values])[1, 0]
    assert found == pytest.approx(values.double().std(correction=0).item(), rel=1e-3)


def test_what_the_kernel_does_not_take() -> None:
    values = torch.ones(4, 6, device=DEVICE)
    assert KERNEL.takes(values)
    for other in (values.T, values[:, :3], values[:1].expand(3, 6), values.double(), values.int()):
        assert not KERNEL.takes(other)


def test_tensors_elsewhere_in_memory() -> None:
    first = [torch.randn(3, 50, device=DEVICE), torch.randn(7, device=DEVICE).half()]
    (table,) = tables(first, range(2))
    second = [torch.randn_like(tensor) for tensor in first]
    assert table.fits(second)
    found = table.complete(table.reduce(second).cpu().numpy())
    np.testing.assert_array_equal(found, by_kernel(second))
    assert not table.fits([torch.randn(50, 3, device=DEVICE).T, second[1]])


@pytest.fixture
def deferring(monkeypatch: pytest.MonkeyPatch) -> None:
    """All outputs are deferred, also those in the host's memory."""
    monkeypatch.setattr(tape, "parts", TapeParts(PlainTape, PlainWatched, _plain_tapes))


def statistics_of_steps(lengths: Sequence[int]) -> list[Statistics]:
    """Statistics of all calls of a model, a step for each number of tokens."""
    model, found = tiny_model(), []
    with watching(model) as watch:
        for length in lengths:
            watch.begin(early=False)
            model(**batch(2, length))
            notes = watch.take()
            assert notes is not None
            assert len(notes.deferred.places) > 20
            found.append(reduced_calls(watch, notes).statistics())
    return found


@pytest.mark.usefixtures("deferring")
def test_steps_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    launches, launch = [], Kernel.launch

    def counted(kernel: Kernel, *args: Any) -> None:
        launches.append(len(args[0]))
        launch(kernel, *args)

    monkeypatch.setattr(Kernel, "launch", counted)
    lengths = (3, 3, 4, 3)
    found = statistics_of_steps(lengths)
    assert len(launches) == len(lengths)
    assert min(launches) > 20
    KERNEL._usable = False
    expected = statistics_of_steps(lengths)
    assert len(launches) == len(lengths)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one[2:], other[2:])
        np.testing.assert_allclose(one[:2], other[:2], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("deferring")
@pytest.mark.parametrize("part", ["_compiled", "_to", "_table"])
def test_a_kernel_that_fails_is_given_up(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fail(*_: Any) -> Any:
        tried.append(1)
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(pointer_table, part, fail)
    found = statistics_of_steps((3, 3))
    assert tried == [1]
    assert not KERNEL._usable
    np.testing.assert_array_equal(found, statistics_of_steps((3, 3)))


@pytest.mark.usefixtures("deferring")
def test_a_timeout_in_it_is_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    class LateError(Exception):
        pass

    def late() -> Any:
        signal.raise_signal(signal.SIGUSR1)

    def handler(*_: Any) -> None:
        raise LateError

    monkeypatch.setattr(pointer_table, "_compiled", late)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(LateError):
            statistics_of_steps((3,))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert KERNEL._usable


def test_what_fails_before_a_run_costs_it_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pointer_table, "_to", lambda *_: 1 / 0)
    monkeypatch.setattr(pointer_table, "_prepare", pointer_table._prepare.__wrapped__)
    model = tiny_model()
    with collected(model, level="stats") as run:
        generate(model, batch(), max_new_tokens=2)
    assert run.problems() == []
    assert len(run.steps) == 2
    assert not KERNEL._usable


def test_it_is_compiled_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = []
    monkeypatch.setattr(Kernel, "launch", lambda _kernel, *args: launched.append(args))
    monkeypatch.setattr(pointer_table, "_prepare", pointer_table._prepare.__wrapped__)
    with collected(tiny_model(), level="shapes") as run:
        generate(tiny_model(), batch(), max_new_tokens=1)
    assert launched == []
    model = tiny_model()
    with collected(model, level="stats") as run:
        generate(model, batch(), max_new_tokens=1)
    assert run.problems() == []
    assert len(launched) == 1


_COMPILE = """
import os
os.environ.pop("TRITON_INTERPRET", None)
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from hooks.modules.pointer_kernel import reduce_parts
kinds = {"addresses": "*i64", "parts": "*i64", "results": "*fp32", "most": "constexpr"}
source = ASTSource(reduce_parts, kinds, constexprs={(3,): 4096})
for capability in (80, 90):
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    assert len(compiled.asm["cubin"]) > 1000
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles for a GPU on Linux")
def test_it_compiles_for_gpus(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("TRITON_INTERPRET", None)
    subprocess.run([sys.executable, "-c", _COMPILE], env=environment, check=True, timeout=300)


def test_the_interpreter_does_not_read_the_memory_of_a_gpu() -> None:
    class OnGpu(torch.Tensor):
        is_cuda = True

    kernel, tensor = Kernel(), torch.ones(2)
    parts = torch.zeros(1, 4, dtype=torch.int64).as_subclass(OnGpu)
    assert kernel.takes(tensor)
    with pytest.raises(KernelError), kernel:
        kernel.launch([tensor.data_ptr()], parts, torch.empty(1, 4), 2)
    assert not kernel.takes(tensor)


def test_values_that_are_the_other_way_round_in_memory_are_left_to_torch() -> None:
    assert not KERNEL.takes(torch.tensor(1 + 2j).conj().imag)
