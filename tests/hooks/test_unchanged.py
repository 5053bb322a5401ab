"""Tracing changes nothing: results, random state, attributes."""

from __future__ import annotations

import copy
import functools
import inspect
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    GenerationMixin,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    TextIteratorStreamer,
)

from hooks.scores.random_state import generator_state
from tests.support.held import held
from tests.support.models import CONFIGS, DEVICE, GREEDY, SAMPLING, batch, collected, generate, tiny_model
from tracer import TraceSession, trace

pytestmark = pytest.mark.usefixtures("both_ways")

MODES = {"greedy": GREEDY, "sampling": SAMPLING}
CAPTURES: list[dict[str, Any]] = [
    {"level": "shapes"},
    {"level": "stats"},
    {"level": "tensors", "save": ("logits", "kv", "hidden", "modules=mlp")},
]


def attributes(model: nn.Module) -> dict[str, dict[str, object]]:
    return {name: dict(vars(module)) for name, module in model.named_modules()}


def assert_same_result(traced: Any, untraced: Any) -> None:
    assert torch.equal(traced.sequences, untraced.sequences)
    assert len(traced.logits) == len(untraced.logits)
    assert all(torch.equal(a, b) for a, b in zip(traced.logits, untraced.logits, strict=True))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CONFIGS)
def test_ids_and_logits_are_bit_identical(name: str, mode: str, rows: int) -> None:
    model, inputs = tiny_model(name), batch(rows)
    untraced = generate(model, inputs, **MODES[mode])
    state = generator_state(torch.device(DEVICE))
    before = attributes(model)
    with collected(model) as run:
        traced = generate(model, inputs, **MODES[mode])
    assert_same_result(traced, untraced)
    assert torch.equal(generator_state(torch.device(DEVICE)), state)
    assert attributes(model) == before
    assert run.problems() == []
    assert len(run.steps) == len(traced.logits)
    chosen = torch.tensor([[step.choice(row).token for step in run.steps] for row in range(rows)])  # type: ignore[union-attr]
    assert torch.equal(chosen, traced.sequences[:, inputs["input_ids"].shape[1] :].cpu())


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda capture: str(capture["level"]))
def test_no_capture_level_changes_the_result(capture: dict[str, Any]) -> None:
    model, inputs = tiny_model(), batch(2)
    untraced = generate(model, inputs, **SAMPLING)
    with collected(model, **capture) as run:
        assert_same_result(generate(model, inputs, **SAMPLING), untraced)
    assert run.problems() == []


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, MemoryError])
def test_everything_is_put_back_after_a_fault(fault: type[BaseException]) -> None:
    model, inputs = tiny_model(), batch()
    before = attributes(model)
    classes = {cls: dict(vars(cls)) for cls in (type(model), PreTrainedModel, GenerationMixin, nn.Module)}
    calls = 0

    def fail(_ids: torch.Tensor, _scores: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise fault("planted")
        return _scores

    with pytest.raises(fault, match="planted"), collected(model) as run:
        generate(model, inputs, **GREEDY, logits_processor=[fail])
    assert attributes(model) == before
    assert all(dict(vars(cls)) == attrs for cls, attrs in classes.items())
    # The step in which it failed is recorded as far as it came, an interrupted one is not.
    assert len(run.steps) == (2 if fault is KeyboardInterrupt else 3)
    end = run.ends[0]
    assert end.status == ("interrupted" if fault is KeyboardInterrupt else "failed")
    assert (end.error is None) == (fault is KeyboardInterrupt)
    assert end.steps == len(run.steps)
    assert len(end.sequences[0]) == inputs["input_ids"].shape[1] + 2


def test_another_model_of_the_class_is_not_touched() -> None:
    traced, other = tiny_model(seed=0), tiny_model(seed=1)
    inputs, before = batch(), attributes(other)
    expected = generate(other, inputs, **SAMPLING)
    with collected(traced) as run:
        assert attributes(other) == before
        assert_same_result(generate(other, inputs, **SAMPLING), expected)
        assert run.steps == []
    assert attributes(other) == before


def test_forward_patched_by_somebody_else_survives() -> None:
    model, inputs = tiny_model(), batch()
    layer = model.model.layers[0]
    original, seen = layer.forward, []

    def theirs(*args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return original(*args, **kwargs)

    layer.forward = theirs
    with collected(model) as run:
        generate(model, inputs, **GREEDY)
    assert vars(layer)["forward"] is theirs
    assert len(seen) == len(run.steps)


def test_a_forward_that_is_a_partial_function_is_traced() -> None:
    model, inputs = tiny_model(), batch()
    expected = generate(model, inputs, **GREEDY)
    for module in (model, model.model.layers[0]):
        # As Accelerate makes them, and one that says nothing of where it is from.
        partial = functools.partial(type(module).forward, module)
        module.forward = functools.update_wrapper(partial, module.forward) if module is model else partial
    before = attributes(model)
    with collected(model) as run:
        assert_same_result(generate(model, inputs, **GREEDY), expected)
    assert attributes(model) == before
    assert run.problems() == []
    assert len(run.steps) == 6


def test_streamer_of_the_user_gets_every_token() -> None:
    class Streamer:
        def __init__(self) -> None:
            self.got: list[list[int]] = []
            self.ended = False

        def put(self, value: torch.Tensor) -> None:
            self.got.append(value.flatten().tolist())

        def end(self) -> None:
            self.ended = True

    model, inputs, streamer = tiny_model(), batch(), Streamer()
    assert TextIteratorStreamer is not None
    with collected(model) as run:
        generate(model, inputs, **GREEDY, streamer=streamer)
    assert streamer.ended
    assert [token for tokens in streamer.got[1:] for token in tokens] == [
        step.choice().token  # type: ignore[union-attr]
        for step in run.steps
    ]


def test_inference_mode_is_traced_too() -> None:
    model, inputs = tiny_model(), batch(2)
    with torch.inference_mode():
        untraced = generate(model, inputs, **SAMPLING)
        with collected(model) as run:
            assert_same_result(generate(model, inputs, **SAMPLING), untraced)
    assert run.problems() == []


def test_a_model_made_in_inference_mode_is_traced_outside_of_it() -> None:
    with torch.inference_mode():
        model = tiny_model()
        for module in model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                module._buffers[name] = buffer.clone()  # such a tensor has no version to ask for
    inputs = batch(2)
    untraced = generate(model, inputs, **SAMPLING)
    with collected(model) as run:
        assert_same_result(generate(model, inputs, **SAMPLING), untraced)
    assert run.problems() == []


def test_generation_goes_on_when_recording_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = tiny_model(), batch()
    untraced = generate(model, inputs, **SAMPLING)

    def broken(*_: object) -> None:
        raise RuntimeError("broken recorder")

    monkeypatch.setattr("hooks.kv_cache.watch.cache_signature", broken)
    monkeypatch.setattr("hooks.modules.signatures.tensors_in", broken)
    with collected(model) as run:
        assert_same_result(generate(model, inputs, **SAMPLING), untraced)
    assert {error.stop for step in run.steps for error in step.head.errors} >= {"layers", "update"}


def test_generation_goes_on_when_the_header_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = tiny_model(), batch()
    untraced = generate(model, inputs, **SAMPLING)

    def broken(*_: object) -> None:
        raise RuntimeError("broken facts")

    monkeypatch.setattr("hooks.loop.model_info.describe_model", broken)
    with collected(model) as run:
        assert_same_result(generate(model, inputs, **SAMPLING), untraced)
    assert [str(fault) for fault in run.faults] == ["broken facts"]


class AtEveryChoice(LogitsProcessor):  # type: ignore[misc]
    """Notes what something looks like before every choice."""

    def __init__(self, look: Callable[[], Any]) -> None:
        self._look = look
        self.seen: list[Any] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.seen.append(self._look())
        return scores


def unchanged(model: PreTrainedModel, path: Path, look: Callable[[], Any], **options: Any) -> TraceSession:
    """Trace a run; what ``look`` returns has to be the same before, in it and after it."""
    generate(model, batch(), **GREEDY)  # what is imported or compiled at the first call is so now
    before, processor = look(), AtEveryChoice(look)
    with trace(model, path=path, force=True, **options) as session:
        assert look() == before
        generate(model, batch(), **GREEDY, logits_processor=LogitsProcessorList([processor]))
        assert look() == before
    assert processor.seen == [before] * 6
    assert look() == before
    return session


LEVELS: list[dict[str, Any]] = [
    {},
    {"capture": "tensors", "save": ["logits", "kv", "lens", "attention"]},
    {"on_stop": lambda _halt: None, "stops": "choice"},
]


@pytest.mark.parametrize("options", LEVELS, ids=["stats", "tensors", "stops"])
def test_inspect_finds_the_same_methods(options: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_model(num_hidden_layers=1)
    own = ("generate", "_sample", "prepare_inputs_for_generation", "_update_model_kwargs_for_generation")

    def look() -> list[Any]:
        methods = [getattr(model, name) for name in own] + [module.forward for module in model.modules()]
        return [
            (
                inspect.signature(method),
                inspect.getfullargspec(method),
                inspect.getsource(method),
                inspect.getfile(method),
                inspect.getdoc(method),
                inspect.ismethod(method),
                inspect.isfunction(method),
                isinstance(method, MethodType),
                id(method.__self__),
                method.__func__,
                (method.__name__, method.__qualname__, method.__module__),
            )
            for method in methods
        ]

    assert unchanged(model, tmp_path / "run.trace", look, **options).faults == ()


@pytest.mark.parametrize("options", LEVELS, ids=["stats", "tensors", "stops"])
def test_copies_pickles_and_state_are_the_same(options: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_model(num_hidden_layers=1)
    model.model.layers[0].register_forward_hook(_left_alone)

    def look() -> Any:
        twin = copy.deepcopy(model)
        return (
            pickle.dumps(model),
            [pickle.dumps(module) for module in model.modules()],
            [(name, value.tolist()) for name, value in model.state_dict().items()],
            [sorted(vars(module)) for module in twin.modules()],
            [len(module._forward_hooks) for module in twin.modules()],
            [(name, module.__class__) for name, module in model.named_modules()],
        )

    unchanged(model, tmp_path / "run.trace", look, **options)


def _left_alone(_module: nn.Module, _args: Any, output: Any) -> None:
    """A hook that changes nothing."""


def test_hooks_of_others_stay_and_run_in_their_order(tmp_path: Path) -> None:
    model, seen = tiny_model(), list[str]()

    def note(name: str) -> Any:
        return lambda *_: seen.append(name)

    layer = model.model.layers[0]
    handles = [
        layer.register_forward_pre_hook(note("before")),
        layer.register_forward_hook(note("first")),
        layer.register_forward_hook(note("second"), always_call=True),
        nn.modules.module.register_module_forward_hook(
            lambda module, *_: seen.append("everywhere") if module is layer else None
        ),
    ]

    def look() -> Any:
        ours = {handle.id for handle in handles}
        return [each for each in layer._forward_hooks if each in ours], [*layer._forward_pre_hooks]

    unchanged(model, tmp_path / "run.trace", look)
    handles[-1].remove()
    assert seen == ["before", "everywhere", "first", "second"] * 12
    assert [*layer._forward_hooks] == [handle.id for handle in handles[1:3]]


@pytest.mark.slow
def test_the_compiler_compiles_nothing_more(tmp_path: Path) -> None:
    torch._dynamo.reset()
    model = tiny_model()
    model.model.layers[0].compile(backend="eager")

    def look() -> Any:
        counters = torch._dynamo.utils.counters
        return {kind: dict(found) for kind, found in counters.items() if kind in ("stats", "graph_break")}

    generate(model, batch(), **GREEDY)
    unchanged(model, tmp_path / "run.trace", look)
    torch._dynamo.reset()


def _traced(*_: Any) -> Any:
    return None


def test_trace_and_profile_functions_are_the_programs(tmp_path: Path) -> None:
    def profiled(*_: Any) -> None:
        """A profile function of the program's."""

    def look() -> Any:
        return sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile(), _monitoring()

    # What somebody else traces with (a coverage tool) is put back.
    before = sys.gettrace(), sys.getprofile()
    sys.settrace(_traced)
    sys.setprofile(profiled)
    try:
        unchanged(tiny_model(), tmp_path / "run.trace", look)
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])


def _monitoring() -> list[Any]:
    monitoring = getattr(sys, "monitoring", None)
    return [] if monitoring is None else [monitoring.get_tool(number) for number in range(6)]


@pytest.mark.parametrize("options", LEVELS, ids=["stats", "tensors", "stops"])
def test_nothing_of_the_process_is_left(options: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_model()

    def handlers() -> Any:
        return [signal.getsignal(number) for number in sorted(signal.valid_signals())]

    def left() -> Any:
        return (
            threading.Thread.start,
            dict(vars(nn.Module)),
            dict(vars(GenerationMixin)),
            sys.gettrace(),
            [*nn.modules.module._global_forward_hooks],
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            warnings.filters[:],
            os.environ.copy(),
            Path.cwd(),
        )

    unchanged(model, tmp_path / "run.trace", handlers, **options)
    before, held_before = left(), held()
    with trace(model, path=tmp_path / "run.trace", force=True, **options):
        generate(model, batch(), **GREEDY)
    assert left() == before
    assert not held() - held_before
