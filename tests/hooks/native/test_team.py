"""The team is the one on which torch runs operations."""

from __future__ import annotations

import ctypes
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hooks.native.team import NO_TEAM, find_team

TASKS = Path("/proc/self/task")

linked = pytest.mark.skipif(
    not sys.platform.startswith("linux")
    or "parallel backend: OpenMP" not in torch.__config__.parallel_info(),
    reason="torch has another team on this system",
)


@linked
@pytest.mark.parametrize("count", [1, 2, 3])
def test_it_runs_on_the_threads_of_torch_and_starts_none(count: int) -> None:
    found, seen = find_team(), set()
    parallel: Any = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    get_num_threads: Any = ctypes.CFUNCTYPE(ctypes.c_int)
    region = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: seen.add(threading.get_native_id()))
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        torch.ones(1 << 20).add(1)
        tasks = {int(each.name) for each in TASKS.iterdir()}
        assert get_num_threads(found.get_num_threads)() == count
        parallel(found.parallel)(region, None, 0, 0)
        # Others may have ended meanwhile, such as those that the runtime lets go when a team gets smaller.
        assert {int(each.name) for each in TASKS.iterdir()} <= tasks
    finally:
        torch.set_num_threads(before)
    assert len(seen) == count
    assert seen <= tasks


def test_there_is_none_where_torch_is_in_another_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "__init__.py"))
    assert find_team() == NO_TEAM


def test_there_is_none_where_torch_is_linked_with_another_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    assert find_team() == NO_TEAM


@linked
def test_a_runtime_that_was_loaded_before_all_others_is_the_one_that_torch_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = ctypes.CDLL
    preloaded = real(None).getpid
    everything = SimpleNamespace(GOMP_parallel=preloaded)

    def load(name: str | None, *args: Any, **kwargs: Any) -> Any:
        return real(name, *args, **kwargs) if name else everything

    before = find_team()
    monkeypatch.setattr(ctypes, "CDLL", load)
    address = ctypes.cast(preloaded, ctypes.c_void_p).value
    assert find_team() == (address, before.get_num_threads)
    del everything.GOMP_parallel
    assert find_team() == before
