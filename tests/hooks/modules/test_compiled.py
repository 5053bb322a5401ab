"""The compiled part does what the plain one does, and lets go of what it was given."""

from __future__ import annotations

import copy
import ctypes
import gc
import inspect
import itertools
import math
import os
import pickle
import signal
import subprocess
import sys
import weakref
from collections import OrderedDict, UserDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from operator import add
from threading import Thread
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hooks.known_models import ANY_MODEL
from hooks.kv_cache.proof import CacheProof
from hooks.kv_cache.view import new_slot_norms, view_cache
from hooks.modules.call_notes import NOTES, DeferredCalls
from hooks.modules.signatures import CallSignature, SignatureTable
from hooks.modules.tape import PlainTape, PlainWatched, _plain_tapes, parts
from hooks.native import compiled
from hooks.native.team import find_team
from hooks.patches import add_layer, remove_layer
from tests.support.models import reduced_calls, watching
from tracer.compiled_parts import PLAIN, load

pytestmark = pytest.mark.skipif(compiled._native is None, reason="built without a C compiler")

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool)


Tape: type[PlainTape] = parts.tape


def stand_in(tape: PlainTape, index: int, function: Any) -> Any:
    """A stand-in for a method whose calls are noted on a tape."""
    plain, owner = isinstance(tape, PlainTape), SimpleNamespace(forward=function)
    watched = (PlainWatched if plain else parts.watched)(function, index, 0, {}, lambda *_: True)
    active = _plain_tapes if plain else parts.active

    def call(*args: Any, **kwargs: Any) -> Any:
        before = active.set((tape,))
        add_layer(owner, "forward", watched)
        try:
            return owner.forward(*args, **kwargs)
        finally:
            remove_layer(owner, "forward", watched)
            active.reset(before)

    return call


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


class Notes:
    """Runs the same calls past a tape, and keeps what it says of them."""

    def __init__(self, kind: type[PlainTape], *, shares: bool = False) -> None:
        self.table = SignatureTable([nn.Identity()] * 3, statistics=True)
        self.inspected: list[tuple[int, int]] = []
        self.found = 0
        self.tape = kind(self.find, self.inspect, bytes(3), bytes([shares] * 3))

    def find(self, index: int, argument: Any, output: Any) -> CallSignature:
        self.found += 1
        return self.table.find(index, argument, output)

    def inspect(self, call: int, index: int, wanted: bool, argument: Any, output: Any) -> None:
        self.inspected.append((call, index))

    def step(self, calls: list[tuple[int, Any, Any]]) -> tuple[list[int], list[tuple[Any, bool]]]:
        self.tape.begin()
        for index, argument, output in calls:
            watched = stand_in(self.tape, index, lambda *_, out=output, **__: out)
            returned = watched(**argument) if isinstance(argument, dict) else watched(argument)
            assert returned is output
        taken = self.tape.take()
        assert taken is not None
        signatures, notes = taken[0], np.frombuffer(taken[1], dtype=NOTES)
        assert len(notes) == len(calls)
        found = [
            (signatures[place].specs, signatures[place].wants_statistics)
            for place in notes["signature"].tolist()
        ]
        return notes["module"].tolist(), found


def tensors() -> st.SearchStrategy[Tensor]:
    sizes = st.lists(st.integers(0, 3), max_size=7)
    return st.builds(lambda size, dtype: torch.ones(size, dtype=dtype), sizes, st.sampled_from(DTYPES))


def values() -> st.SearchStrategy[Any]:
    one = tensors() | st.none() | st.just("text")
    several = st.lists(one, max_size=3)
    named = several.map(lambda items: {f"a{at}": item for at, item in enumerate(items)})
    return (
        one
        | several
        | several.map(tuple)
        | named
        | named.map(OrderedDict)
        | named.map(UserDict)
        | st.builds(Pair, tensors(), tensors())
    )


@pytest.mark.parametrize("shares", [False, True])
@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.lists(st.tuples(st.integers(0, 2), values(), values()), max_size=6), max_size=4))
def test_it_tells_calls_apart_as_the_plain_tape_does(
    shares: bool, steps: list[list[tuple[int, Any, Any]]]
) -> None:
    quick, plain = Notes(Tape, shares=shares), Notes(PlainTape, shares=shares)
    assert quick.tape.take() is None
    for calls in steps:
        assert quick.step(calls) == plain.step(calls)
    # What it has taken itself it does not ask for.
    assert set(quick.inspected) <= set(plain.inspected)


def test_a_call_like_the_last_one_is_not_asked_about_again() -> None:
    notes = Notes(Tape)
    calls = [(0, torch.ones(1, 2), (torch.ones(2, 3), None)), (1, {"a": torch.ones(2)}, torch.ones(2))]
    for _ in range(3):
        notes.step(calls)
    assert notes.found == 2
    changed = torch.ones(2, 3, dtype=torch.bfloat16)
    notes.step([(0, torch.ones(1, 2), (changed, None))])
    assert notes.found == 3


def test_what_changes_in_all_modules_alike_is_asked_about_once() -> None:
    notes = Notes(Tape)
    for length in range(1, 6):
        notes.step([(index, torch.ones(1), torch.ones(length)) for index in range(3)])
    assert notes.found == 3 + 4


def test_calls_whose_inputs_alone_grow_are_not_asked_about_again() -> None:
    notes, plain, output = Notes(Tape, shares=True), Notes(PlainTape, shares=True), torch.ones(2)
    for length in (1, 2, 3, 300, 2):
        calls: list[tuple[int, Any, Any]] = [
            (0, {"ids": torch.ones(1, length), "mask": torch.ones(length, 1, 7).bool()}, output),
            (1, [torch.ones(1, length), None], output),
            (2, torch.ones(length), (output, output)),
        ]
        assert notes.step(calls) == plain.step(calls)
        assert notes.found == 3
    for argument in (torch.ones(1, 4).double(), torch.ones(4), (torch.ones(1, 4), torch.ones(1)), None):
        calls = [(1, argument, output)]
        assert notes.step(calls) == plain.step(calls)
    assert notes.found == 7


def test_a_signature_that_has_grown_is_as_readable_as_the_one_before() -> None:
    notes = Notes(Tape, shares=True)
    odd = torch.ones(2, dtype=torch.int64)
    for length in (1, 2):
        ((specs, wanted),) = notes.step([(0, torch.ones(length), odd)])[1]
        assert (specs, wanted) == (notes.table.find(0, torch.ones(length), odd).specs, False)
    before = CallSignature(((), ()), wants_statistics=False, unreadable="a nested tensor")
    grown = before.with_sizes(())
    assert (grown.specs, grown.wants_statistics, grown.unreadable) == (((), ()), False, "a nested tensor")


def test_modules_of_which_specs_tell_all_are_asked_about_once() -> None:
    notes = Notes(Tape, shares=True)
    for length in (1, 2, 1, 3):
        calls = [(index, torch.ones(1), torch.ones(length)) for index in range(3)]
        signatures = notes.step(calls)[1]
        assert signatures == Notes(PlainTape).step(calls)[1]
    assert notes.found == 3


@pytest.mark.parametrize("shares", [False, True])
def test_calls_of_nearly_the_same_sizes_are_told_apart(shares: bool) -> None:
    notes, lengths = Notes(Tape, shares=shares), (1, 2, 3, 4, 5, 8, 16, 255, 256)
    sizes = [*itertools.product(lengths, repeat=3), *itertools.product(lengths, repeat=2)]
    whole = torch.empty(1).expand(300, 300, 300)
    for size in sizes:
        output = whole[tuple(slice(length) for length in size)]
        for argument, found in ((torch.ones(size[0]), output), ([torch.ones(size[0]), output], None)):
            _, ((specs, _),) = notes.step([(0, argument, found)])
            assert specs == notes.table.find(0, argument, found).specs
    assert notes.found > len(sizes)


def test_very_many_kinds_of_calls_are_told_apart() -> None:
    notes = Notes(Tape, shares=True)
    for length in (*range(1, 80), *range(1, 80)):
        _, signatures = notes.step([(length % 3, torch.ones(1), torch.ones(length))])
        assert signatures[0][0][1][0][0] == (length,)
    assert 79 < notes.found <= 2 * 79


@pytest.mark.parametrize("kind", [Tape, PlainTape])
def test_outputs_to_reduce_later_are_deferred(kind: type[PlainTape]) -> None:
    notes, deferred = Notes(kind), DeferredCalls()
    with torch.inference_mode():
        frozen = torch.ones(2, dtype=torch.float64)
    written = torch.ones(3, dtype=torch.float64).add_(1)
    argument, counts = torch.ones(1), torch.ones(1, dtype=torch.int64)
    notes.tape.reduce_early(2)
    for keeping in (None, deferred, None):
        notes.tape.begin(keeping)
        for index, output in ((0, counts), (1, (written, counts)), (0, frozen), (2, written), (0, written)):
            stand_in(notes.tape, index, lambda _, out=output: out)(argument)
        notes.tape.take()
    assert deferred.places == [1, 4]
    assert all(each is argument for each in deferred.arguments)
    assert all(each is written for each in deferred.outputs)
    assert deferred.versions == [1, 1]
    # One that does not say whether it has been written to, and one of a module that is looked at in time.
    assert notes.inspected[4:6] == [(2, 0), (3, 2)]
    assert len(notes.inspected) == 4 + 2 + 4
    # Nothing is deferred after a step.
    stand_in(notes.tape, 0, lambda _: written)(argument)
    assert len(deferred.places) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [2, 5, 16, 33, 576, 300_001])
def test_statistics_are_exact(size: int, dtype: torch.dtype) -> None:
    values = (torch.randn(size, generator=torch.Generator().manual_seed(size)) * 3 + 100).to(dtype)
    exact = values.double()
    expected = [exact.mean(), exact.std(correction=0), exact.min(), exact.max()]
    assert statistics_of(values) == pytest.approx([float(each) for each in expected], rel=1e-5)


def sum_in_lanes(values: npt.NDArray[np.float64]) -> float:
    """Sixteen sums in order, and then the sum of these."""
    grouped = len(values) // 16 * 16
    groups = np.concatenate((np.zeros((1, 16)), values[:grouped].reshape(-1, 16)))
    lanes: list[float] = np.add.accumulate(groups)[-1].tolist()
    lanes[0] = reduce(add, values[grouped:].tolist(), lanes[0])
    return reduce(add, lanes)


def moments_in_lanes(values: Tensor) -> list[float]:
    """The statistics as the compiled part defines them: of parts that are joined in order, each in lanes."""
    exact = values.double().numpy()
    parts = min(-(-len(exact) // 65536), 256)
    each = -(-len(exact) // (16 * parts)) * 16

    def total(of: npt.NDArray[np.float64]) -> float:
        sums = [sum_in_lanes(of[begin : begin + each]) for begin in range(0, len(of), each)]
        return reduce(add, sums)

    mean = total(exact) / len(exact)
    variance = total(exact * exact) / len(exact) - mean * mean
    return [mean, math.sqrt(max(variance, 0.0)), float(exact.min()), float(exact.max())]


def statistics_of(values: Tensor) -> list[float]:
    """Mean, deviation, minimum and maximum as the compiled part takes them."""
    notes = Notes(Tape)
    notes.tape.begin()
    stand_in(notes.tape, 0, lambda value: value)(values)
    taken = notes.tape.take()
    assert taken is not None
    assert notes.inspected == []
    (statistics,) = np.frombuffer(taken[1], dtype=NOTES)["statistics"]
    found: list[float] = statistics.tolist()
    return found


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(2, 400),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 1e30]),
)
def test_statistics_have_the_same_bits_on_every_processor(
    seed: int, size: int, dtype: torch.dtype, spread: float
) -> None:
    random = torch.Generator().manual_seed(seed)
    values = (torch.randn(size + 1, generator=random) * spread + seed % 3).to(dtype)[1:]
    assert statistics_of(values) == np.array(moments_in_lanes(values), dtype=np.float32).tolist()


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads of torch, and puts it back after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [65_536, 65_537, 131_072, 300_003, 256 * 65_536 + 5])
def test_statistics_have_the_same_bits_for_every_number_of_threads(
    size: int, dtype: torch.dtype, threads: Callable[[int], None]
) -> None:
    values = torch.randn(size + 1, generator=torch.Generator().manual_seed(size)).add_(1).to(dtype)[1:]
    expected = np.array(moments_in_lanes(values), dtype=np.float32).tolist()
    for count in (1, 2, 3):
        threads(count)
        assert statistics_of(values) == expected


@settings(max_examples=50, deadline=None)
@given(size=st.integers(65_537, 400_000), threads=st.integers(1, 9))
def test_statistics_have_the_same_bits_however_parts_are_shared_out(size: int, threads: int) -> None:
    values = torch.arange(size, dtype=torch.float32).sin_()
    with a_team_of(threads) as regions:
        found = statistics_of(values)
    assert regions == ([threads] if threads > 1 else [])
    assert found == np.array(moments_in_lanes(values), dtype=np.float32).tolist()


@contextmanager
def a_team_of(threads: int) -> Iterator[list[int]]:
    """Another team than that of torch; yields its size in each of its parallel regions."""
    regions: list[int] = []

    def parallel(region: int, shared: int, _threads: int, _flags: int) -> None:
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(region)
        regions.append(threads)
        workers = [Thread(target=function, args=(shared,)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    types = (None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), (ctypes.c_int,)
    functions = ctypes.CFUNCTYPE(*types[0])(parallel), ctypes.CFUNCTYPE(*types[1])(lambda: threads)
    addresses = [ctypes.cast(each, ctypes.c_void_p).value for each in functions]
    compiled._native.use_team(*addresses)
    try:
        yield regions
    finally:
        compiled._native.use_team(*find_team())


def test_only_long_outputs_are_shared_out() -> None:
    with a_team_of(2) as regions:
        statistics_of(torch.ones(65_536))
        assert regions == []
        statistics_of(torch.ones(65_537))
        assert regions == [2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
def test_a_forked_process_takes_statistics_alone(threads: Callable[[int], None]) -> None:
    threads(2)
    values = torch.ones(300_000)
    expected = statistics_of(values)
    child = os.fork()
    if not child:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)  # ends a process that waits for threads that are not there
            os._exit(0 if statistics_of(values) == expected else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    "output",
    [
        torch.ones(2, 3).t(),
        torch.ones(4, 6)[:, ::2],
        torch.ones(0, 3),
        torch.ones(2, dtype=torch.complex64).conj().imag,
        torch.ones(1, dtype=torch.complex64).conj().imag,
        torch.ones(3, dtype=torch.float16),
        torch.ones(3, dtype=torch.float64),
        torch.tensor([1.0, float("nan")]),
        torch.tensor([1.0, float("-inf")]),
        torch.ones((1,) * 7),
        torch.ones(3, device="meta"),
        torch.ones(3).to_sparse(),
        nn.Parameter(torch.ones(3)),
    ],
    ids=lambda tensor: f"{tensor.layout}-{tuple(tensor.shape)}-{tensor.dtype}-{tensor.device}",
)
def test_other_outputs_are_left_to_python(output: Tensor) -> None:
    notes = Notes(Tape)
    notes.tape.begin()
    stand_in(notes.tape, 0, lambda value: value)(output)
    taken = notes.tape.take()
    assert taken is not None
    wants_statistics = taken[0][0].wants_statistics
    assert notes.inspected == ([(0, 0)] if wants_statistics else [])
    assert np.isnan(np.frombuffer(taken[1], dtype=NOTES)["statistics"]).all()
    plain = output.layout == torch.strided and not output.is_meta
    assert wants_statistics == (output.numel() > 0 and plain)


def test_a_call_with_very_many_tensors_is_left_to_python() -> None:
    many = tuple(torch.ones(1) for _ in range(65))
    quick, plain = Notes(Tape), Notes(PlainTape)
    for _ in range(2):
        assert quick.step([(0, many[0], many)]) == plain.step([(0, many[0], many)])
    assert (quick.found, plain.found) == (2, 1)


def test_a_stand_in_is_like_the_method_below() -> None:
    linear = nn.Linear(2, 2)
    signature, text = inspect.signature(linear.forward), linear.forward.__doc__
    source = inspect.getsource(linear.forward)
    with watching(linear):
        forward: Any = linear.forward
        assert type(forward).__name__ == "Watched"
        assert inspect.signature(forward) == signature
        assert inspect.getsource(forward) == source
        assert (forward.__name__, forward.__doc__, forward.__self__) == ("forward", text, linear)
        twin = copy.deepcopy(linear)
        assert twin.forward.__self__ is twin  # type: ignore[attr-defined]
        again = pickle.loads(pickle.dumps(linear))
        assert again.forward.__self__ is again
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            forward()
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            linear(torch.ones(1, 3))
    assert "forward" not in vars(linear)


def test_an_exception_of_the_methods_it_calls_reaches_the_caller() -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    finding = Tape(interrupted, lambda *_: None, bytes(1), bytes(1))
    finding.begin()
    with pytest.raises(KeyboardInterrupt):
        stand_in(finding, 0, lambda value: value)(torch.ones(1))
    signature = CallSignature(((), ()), wants_statistics=True)
    looking = Tape(lambda *_: signature, interrupted, bytes([1]), bytes(1))
    looking.begin()
    with pytest.raises(KeyboardInterrupt):
        stand_in(looking, 0, lambda value: value)(torch.ones(1))
    taken = looking.take()
    assert taken is not None
    assert taken[0] == [signature]
    assert np.frombuffer(taken[1], dtype=NOTES)[["module", "signature"]].tolist() == [(0, 0)]


class Late(Exception):  # noqa: N818 - what a program calls its timeout
    """A timeout of the program's own."""


def test_a_timeout_that_comes_while_sizes_are_compared_reaches_the_caller() -> None:
    asked = list[str]()

    class Slow(torch.Tensor):
        def __getattribute__(self, name: str) -> Any:
            if name == "shape" and not asked:
                asked.append(name)
                signal.raise_signal(signal.SIGUSR1)
            return super().__getattribute__(name)

    def ring(*_: Any) -> None:
        raise Late

    notes = Notes(PlainTape)
    notes.step([(0, torch.ones(2), torch.ones(2))])
    before = signal.signal(signal.SIGUSR1, ring)
    try:
        with pytest.raises(Late):
            notes.step([(0, torch.ones(2).as_subclass(Slow), torch.ones(2))])
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_step_that_ends_while_python_is_asked_is_no_harm() -> None:
    tape: PlainTape

    def ending(*_: Any) -> CallSignature:
        tape.take()
        return CallSignature(((), ()), wants_statistics=True)

    tape = Tape(ending, lambda *_: None, bytes(1), bytes(1))
    tape.begin()
    output = torch.ones(2)
    assert stand_in(tape, 0, lambda value: value)(output) is output
    assert tape.take() is None


@pytest.mark.parametrize("wrong", [(-1, bytes(1)), (bytes(2), bytes(1)), (bytes(1),), ()])
def test_nonsense_is_refused(wrong: tuple[Any, ...]) -> None:
    with pytest.raises((TypeError, ValueError)):
        compiled._native.Tape(lambda *_: None, lambda *_: None, *wrong)
    tape = Tape(lambda *_: "no record", lambda *_: None, bytes(1), bytes(1))  # type: ignore[arg-type]
    for index in (-1, 1):
        with pytest.raises(IndexError):
            tape.reduce_early(index)
    with pytest.raises(AttributeError, match="places"):
        tape.begin("no lists")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="lists"):
        tape.begin(DeferredCalls(outputs=()))  # type: ignore[arg-type]
    tape.begin()
    with pytest.raises(AttributeError):
        stand_in(tape, 0, lambda value: value)(torch.ones(1))


def test_nothing_that_it_saw_is_held() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with watching(model) as watch:
        outputs: list[weakref.ref[Tensor]] = []
        for _ in range(3):
            watch.begin(early=False)
            output = model(torch.ones(1, 4))
            outputs.append(weakref.ref(output))
            del output
            assert outputs[-1]() is None
            notes = watch.take()
            assert notes is not None
            reduced_calls(watch, notes)
    gone = weakref.ref(watch), weakref.ref(model[0])
    del watch, model, notes
    gc.collect()
    assert [each() for each in gone] == [None, None]


def test_without_it_if_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load("hooks.native._native") is not None
    monkeypatch.setenv(PLAIN, "1")
    assert load("hooks.native._native") is None


def test_a_torch_that_does_not_describe_its_tensors_is_watched_in_python() -> None:
    code = (
        "import torch; torch.Tensor.__dlpack_c_exchange_api__ = None\n"
        "from hooks.modules import tape\n"
        "assert tape.parts.tape is tape.PlainTape\n"
        "try:\n    import hooks.native._native\n"
        "except ImportError as error:\n    print(error)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "this torch has another C exchange interface\n"


def caches(dtype: torch.dtype) -> list[list[Tensor]]:
    """Key and value tensors as a cache may hold them: whole, part of a longer one, turned."""
    draw = torch.Generator().manual_seed(0)
    whole = [torch.randn(2, 3, 7, 8, generator=draw).to(dtype) for _ in range(4)]
    parts = [torch.randn(2, 3, 9, 8, generator=draw).to(dtype)[:, :, 1:8] for _ in range(4)]
    turned = [torch.randn(2, 7, 3, 8, generator=draw).to(dtype).transpose(1, 2) for _ in range(4)]
    return [whole, parts, turned]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_of_many_slots_are_those_of_each(dtype: torch.dtype, threads: Callable[[int], None]) -> None:
    draw = torch.Generator().manual_seed(0)
    whole = torch.randn(2, 3, 901, 40, generator=draw).to(dtype)
    turned = torch.randn(2, 901, 3, 40, generator=draw).to(dtype).transpose(1, 2)
    for tensor in (whole, turned):
        each = [compiled.slot_norms([tensor], slot, slot + 1) for slot in range(1, 901)]
        expected = torch.cat([norms for norms in each if norms is not None], dim=-1)
        for count in (1, 2, 3):
            threads(count)
            norms = compiled.slot_norms([tensor, tensor], 1, 901)
            assert norms is not None
            assert torch.equal(norms, torch.cat((expected, expected)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_of_a_slot_of_many_rows_are_those_of_each(
    dtype: torch.dtype, threads: Callable[[int], None]
) -> None:
    draw = torch.Generator().manual_seed(0)
    tensors = [torch.randn(16, 3, 5, 61, generator=draw).to(dtype) for _ in range(40)]
    each = [compiled.slot_norms([tensor[row : row + 1]], 3, 4) for tensor in tensors for row in range(16)]
    expected = torch.cat([norms for norms in each if norms is not None]).reshape(40, 16, 3, 1)
    for count in (1, 2, 3):
        threads(count)
        norms = compiled.slot_norms(tensors, 3, 4)
        assert norms is not None
        assert torch.equal(norms, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("start", "stop"), [(0, 7), (6, 7), (2, 5)])
def test_norms_are_those_of_torch(
    dtype: torch.dtype, start: int, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cache in caches(dtype):
        view = view_cache([(cache[0], cache[1]), (cache[2], cache[3])], ANY_MODEL, 7)
        assert compiled.slot_norms(cache, start, stop) is not None
        quick = new_slot_norms(view, start, stop)
        with monkeypatch.context() as patch:
            patch.setattr(compiled, "_native", None)
            plain = new_slot_norms(view, start, stop)
        torch.testing.assert_close(quick, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("before", "length"), [(0, 7), (6, 7), (7, 7), (0, 0), (2, 5)])
def test_sums_are_those_of_torch(dtype: torch.dtype, before: int, length: int) -> None:
    for cache in caches(dtype):
        for layers in ((0, 1), (1,), (1, 0)):
            quick = compiled.slot_sums(cache, layers, before, length)
            assert quick is not None
            tensors = [cache[2 * part + layer] for layer in layers for part in (0, 1)]
            plain = CacheProof()._sums_by_torch(tensors, before, length)
            assert torch.equal(quick, plain.reshape(quick.shape))


def test_other_caches_are_left_to_torch() -> None:
    like = torch.ones(1, 2, 3, 4)
    for key, value in (
        (like, torch.ones(1, 2, 4, 4)),
        (like, like.double()),
        (like, like.to("meta")),
        (like.to("meta"), like),
        (like, nn.Parameter(like)),
        *((odd, odd) for odd in (like[..., ::2], like.transpose(-1, -2), like[0], like[..., :3])),
    ):
        assert compiled.slot_sums([key, value], (0,), 1, 2) is None
    for start, stop in ((1, 1), (-1, 1), (2, 4)):
        assert compiled.slot_norms([like], start, stop) is None
    assert compiled.slot_norms([], 0, 1) is None
    assert compiled.slot_norms([like, like[..., :3]], 0, 1) is None
    assert compiled.slot_norms([like.double()], 0, 1) is None


def test_results_are_tensors_of_their_own() -> None:
    tensors = [torch.ones(1, 2, 3, 4) for _ in range(2)]
    for results in (compiled.slot_norms(tensors, 0, 2), compiled.slot_sums(tensors, (0,), 1, 2)):
        assert results is not None
        before, copied = results.clone(), [tensor.fill_(5.0) for tensor in tensors]
        del copied, tensors[:]
        assert torch.equal(results, before)
        assert (results.is_contiguous(), results.is_inference()) == (True, False)
        tensors = [torch.ones(1, 2, 3, 4) for _ in range(2)]
    with torch.inference_mode():
        norms = compiled.slot_norms(tensors, 0, 2)
        assert norms is not None
        assert norms.is_inference()
    assert norms.tolist() == [[[[2.0] * 2] * 2]] * 2


def test_checksums_are_taken_of_layers_that_are_there() -> None:
    tensors = [torch.ones(1, 2, 3, 4)] * 2
    for layers in ((), (1,), (-1,), (0, 1)):
        assert compiled.slot_sums(tensors, layers, 1, 2) is None
    for arguments in (("text", (0,)), (tensors, [0]), (tensors, ("text",))):
        with pytest.raises(TypeError):
            compiled._native.slot_sums(*arguments, 1, 2)


@given(st.lists(st.integers(0, 2**31 - 1), max_size=6), st.binary(max_size=480))
def test_columns_are_those_of_numpy(numbers: list[int], data: bytes) -> None:
    # Any bits, so that every kind of NaN is among the statistics.
    notes = np.frombuffer(data[: len(data) // NOTES.itemsize * NOTES.itemsize], dtype=NOTES).copy()
    notes["signature"] = np.arange(len(notes)) % max(1, len(numbers))
    notes = notes if numbers else notes[:0]
    notes.setflags(write=False)  # as the notes of a tape are
    quick = compiled.call_columns(notes, numbers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "_native", None)
        plain = compiled.call_columns(notes, numbers)
    assert quick.dtype == plain.dtype == np.int32
    assert quick.shape == plain.shape == (6, len(notes))
    assert quick.tobytes() == plain.tobytes()


def test_a_signature_that_is_not_there_is_an_error() -> None:
    notes = np.zeros(3, dtype=NOTES)
    for place in (2, -1):
        notes["signature"][1] = place
        with pytest.raises(IndexError):
            compiled.call_columns(notes, [5, 6])
    with pytest.raises(TypeError):
        compiled._native.call_columns(np.zeros(1, dtype=NOTES), [None])
    with pytest.raises(OverflowError):
        compiled._native.call_columns(np.zeros(1, dtype=NOTES), [2**70])


WHOLE = torch.ones(1, 2, 3, 4)
CACHED = [
    WHOLE,
    torch.zeros(1, 3, 2, 4).transpose(1, 2),
    WHOLE.bfloat16(),
    WHOLE.half(),
    WHOLE.double(),
    WHOLE.to("meta"),
    WHOLE[..., :3],
    WHOLE[0],
    torch.ones([1] * 9),
    torch.empty(0),
    nn.Parameter(WHOLE),
]
"""What a cache may hold: some of it is alike."""

LAYERS = st.lists(st.sampled_from(CACHED), max_size=4) | st.lists(st.sampled_from(CACHED[:2]), max_size=4)


@given(keys=LAYERS, values=LAYERS, slot=st.integers(-2, 9))
def test_a_cache_is_gathered_as_in_python(keys: list[Tensor], values: list[Tensor], slot: int) -> None:
    quick = compiled.gather(keys, values, slot)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "_native", None)
        plain = compiled.gather(keys, values, slot)
    assert (quick is None) == (plain is None)
    assert [*map(id, quick or [])] == [*map(id, plain or [])]


class Summing(list[Tensor]):
    """A list that adds up to something else."""

    def __add__(self, other: Any) -> Any:
        return 7


@pytest.mark.parametrize("kind", [list, tuple, Summing])
def test_tensors_of_a_cache_are_alike_or_are_not(kind: Any) -> None:
    for keys, values in (([WHOLE], [CACHED[1]]), ([WHOLE] * 2, CACHED[:2]), ([CACHED[8]], [CACHED[8]])):
        assert compiled.gather(kind(keys), kind(values), 0) == [*keys, *values]
    for keys, values in (([], []), ([WHOLE], []), ([WHOLE], [WHOLE] * 2), ([WHOLE], [CACHED[4]])):
        assert compiled.gather(kind(keys), kind(values), 0) is None
