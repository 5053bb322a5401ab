"""Modes, contexts, threads and exceptions of the program around a trace are as they are without one."""

from __future__ import annotations

import contextvars
import gc
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LogitsProcessor, LogitsProcessorList

from hooks.user_modes import sees_attributes
from tests.support.models import SAMPLING, batch, collected, tiny_model
from tracer import TraceSession, open_trace, trace
from tracer.errors import UsageError

NEW: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


class Acting(LogitsProcessor):  # type: ignore[misc]
    """Does something before the choice of a step."""

    def __init__(self, action: Callable[[], object], step: int = 3) -> None:
        self._action = action
        self._left = step

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._left -= 1
        if not self._left:
            self._action()
        return scores


def acting(action: Callable[[], object], step: int = 3) -> LogitsProcessorList:
    return LogitsProcessorList([Acting(action, step)])


class Dispatched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation below autograd."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Called(TorchFunctionMode):
    """Notes every call of a function of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(getattr(func, "__name__", str(func)))
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("capture", ["shapes", "stats", "tensors"])
@pytest.mark.parametrize("mode", [Dispatched, Called])
def test_a_mode_sees_the_operations_of_the_model_alone(mode: Any, capture: str, dtype: torch.dtype) -> None:
    model = tiny_model().to(dtype)
    hooked = model.model.layers[0].register_forward_hook(lambda _module, _args, output: output)
    settings: dict[str, Any] = {**NEW, **SAMPLING}
    torch.manual_seed(0)
    with mode() as untraced:
        expected = model.generate(**batch(2), **settings)
    save: tuple[str, ...] = ("logits", "kv", "hidden", "lens") if capture == "tensors" else ()
    if save and dtype is torch.float32:
        save = (*save, "attention")
    torch.manual_seed(0)
    with collected(model, level=capture, save=save) as run, mode() as traced:
        found = model.generate(**batch(2), **settings)
    assert torch.equal(found, expected)
    hooked.remove()
    assert traced.seen == untraced.seen
    assert run.problems() == []
    assert len(run.steps) == 5


def test_a_default_device_is_no_mode_that_looks_on() -> None:
    model = tiny_model()
    with torch.device("cpu"), collected(model) as run:
        assert not sees_attributes()
        model.generate(**batch(), **NEW)
    with Called():
        assert sees_attributes()
    assert run.problems() == []


@dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818
    """An exception that takes no other attribute."""

    text: str = "frozen"


@pytest.mark.reference_only
def test_an_exception_that_takes_no_attribute_leaves_the_block_as_it_is(tmp_path: Path) -> None:
    ours, seen = Frozen(), list[BaseException]()

    def fail() -> None:
        raise ours

    model = tiny_model()
    try:
        with trace(model, path=tmp_path / "run.trace"):
            model.generate(**batch(), **NEW, logits_processor=acting(fail))
    except BaseException as error:  # noqa: BLE001 - it is looked at
        seen.append(error)
    assert seen == [ours]
    with open_trace(tmp_path / "run.trace") as recording:
        assert recording.runs[0].end is not None
        assert recording.runs[0].end.status.value == "failed"


def test_a_block_that_is_left_inside_of_its_own_run_does_not_wait_for_it(tmp_path: Path) -> None:
    model = tiny_model()
    expected = model.generate(**batch(), **NEW)
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    block = trace(model, path=tmp_path / "run.trace")
    block.__enter__()
    took: list[float] = []

    def leave() -> None:
        began = time.monotonic()
        with pytest.warns(RuntimeWarning, match="left inside of its own generate"):
            block.__exit__(None, None, None)
        took.append(time.monotonic() - began)

    assert torch.equal(model.generate(**batch(), **NEW, logits_processor=acting(leave)), expected)
    assert took[0] < 3
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == before
    with open_trace(tmp_path / "run.trace") as recording:
        (run,) = recording.runs
        assert run.end is not None
        assert (run.end.status.value, len(run.steps)) == ("interrupted", 2)


def test_nothing_that_outlives_the_block_keeps_the_model(tmp_path: Path) -> None:
    contexts, over = list[contextvars.Context](), threading.Event()

    def copy_context() -> None:
        contexts.append(contextvars.copy_context())

    def in_a_block() -> tuple[Any, TraceSession, threading.Thread]:
        model, save = tiny_model(), ["lens", "attention"]
        with trace(model, path=tmp_path / "run.trace", capture="tensors", save=save) as session:
            thread = threading.Thread(target=over.wait)
            thread.start()
            copy_context()
            model.generate(**batch(), **NEW, logits_processor=acting(copy_context))
        return weakref.ref(model), session, thread

    gone, session, thread = in_a_block()
    gc.collect()
    assert gone() is None
    assert session.steps == 5
    other = tiny_model()
    for context in contexts:  # and nothing of it is in force there
        context.run(other.generate, **batch(), **NEW)
    over.set()
    thread.join()


def test_a_context_that_was_copied_in_a_run_records_later_runs_of_the_block(tmp_path: Path) -> None:
    model, contexts = tiny_model(), list[contextvars.Context]()
    with trace(model, path=tmp_path / "run.trace") as session:
        model.generate(
            **batch(), **NEW, logits_processor=acting(lambda: contexts.append(contextvars.copy_context()))
        )
        contexts[0].run(model.generate, **batch(), **NEW)
    with open_trace(session.path) as recording:
        assert [len(run.steps) for run in recording.runs] == [5, 5]


def test_the_lens_calls_no_hook_of_the_users() -> None:
    model, seen = tiny_model(), list[tuple[int, ...]]()
    handle = model.lm_head.register_forward_hook(lambda _module, _args, output: seen.append(output.shape))
    with collected(model, save=("lens",)) as run:
        model.generate(**batch(), **NEW)
    handle.remove()
    assert len(seen) == len(run.steps) == 5
    assert run.problems() == []


def test_a_block_is_entered_once_and_decorates_functions(tmp_path: Path) -> None:
    model = tiny_model()
    block = trace(model, path=tmp_path / "run.trace", force=True)
    with block as session:
        pass
    with pytest.raises(UsageError, match="entered before"), block:
        pass

    @trace(model, path=tmp_path / "decorated.trace", force=True)
    def answer() -> Any:
        return model.generate(**batch(), **NEW)

    assert torch.equal(answer(), answer())
    assert session.steps == 0
    with open_trace(tmp_path / "decorated.trace") as recording:
        assert len(recording.runs) == 1
