"""Methods that are exchanged while stand-ins are over them: what an untraced program calls is called."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.models.qwen2 import modeling_qwen2

from hooks.modules.model_modules import ModelModules
from tests.support.models import GREEDY, batch, generate, tiny_model
from tracer import trace

pytestmark = pytest.mark.usefixtures("both_ways")


class Plain(nn.Module):
    """Adds one."""

    def forward(self, x: Tensor) -> Tensor:
        """Add one."""
        return x + 1


def kind() -> Any:
    """A class of its own for each test, with one class between it and that of torch."""
    return type("Kind", (type("Base", (Plain,), {}),), {})


def forward(_self: nn.Module, x: Tensor) -> Tensor:
    """Another method."""
    return 10 * x


def in_the_class(module: Any) -> None:
    type(module).forward = forward


def in_its_base(module: Any) -> None:
    base: Any = type(module).__mro__[1]
    base.forward = forward


def another_class(module: Any) -> None:
    module.__class__ = type("Other", (nn.Module,), {"forward": forward})


def static(module: Any) -> None:
    type(module).forward = staticmethod(lambda x: 3 * x)


def computed(module: Any) -> None:
    given = iter([torch.neg, torch.square])
    type(module).forward = property(lambda _: next(given))


def without_a_frame(module: Any) -> None:
    type(module).forward = torch.neg


class Missing:
    """Gives nothing."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        raise AttributeError("nothing")


def found_by_getattr(module: Any) -> None:
    type(module).forward = Missing()
    type(module).__getattr__ = lambda _self, _name: lambda x: 7 * x


def and_back(module: Any) -> None:
    known = type(module).forward
    in_the_class(module)
    module(torch.ones(1))
    type(module).forward = known


def taken_away(module: Any) -> None:
    in_the_class(module)
    module(torch.ones(1))
    del type(module).forward


def method_that_calls_it(module: Any) -> None:
    usual: Any = nn.Module._call_impl

    def twice(self: nn.Module, x: Tensor) -> Any:
        return 2 * usual(self, x)

    type(module)._call_impl = twice


CHANGES = [
    in_the_class,
    in_its_base,
    another_class,
    static,
    computed,
    without_a_frame,
    found_by_getattr,
    and_back,
    taken_away,
    method_that_calls_it,
]


@contextmanager
def in_run(*models: nn.Module) -> Iterator[None]:
    """Within runs of models."""
    found = [ModelModules(model) for model in models]
    for modules in found:
        modules.enter()
    try:
        yield
    finally:
        for modules in found:
            modules.leave()


def outcomes(module: nn.Module, change: Callable[[nn.Module], None]) -> list[list[float]]:
    """What a module returns before a change and twice after it."""
    x = torch.tensor([2.0])
    found = [module(x)]
    change(module)
    return [each.tolist() for each in [*found, module(x), module(x)]]


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_class_holds(change: Callable[[nn.Module], None], runs: int) -> None:
    module = kind()()
    with in_run(*[module] * runs):
        traced = outcomes(module, change)
    assert traced == outcomes(kind()(), change)
    assert not {"forward", "_call_impl"} & vars(module).keys()


def test_it_holds_for_a_stand_in_whose_lower_one_was_taken_away() -> None:
    module = kind()()
    lower, upper = ModelModules(module), ModelModules(module)
    lower.enter()
    upper.enter()
    lower.leave()
    in_the_class(module)
    assert module(torch.ones(1)).tolist() == [10]
    upper.leave()
    assert not {"forward", "_call_impl"} & vars(module).keys()


def test_the_method_of_an_instance_stays() -> None:
    module = kind()()
    module.forward = module.forward
    with in_run(module):
        in_the_class(module)
        assert module(torch.ones(1)).tolist() == [2]


def test_the_stand_in_looks_like_the_method_that_the_class_has_now() -> None:
    module = kind()()
    with in_run(module):
        in_the_class(module)
        method: Any = vars(module)["forward"]
        assert (method.__self__, method.__func__, method.__name__) == (module, forward, "forward")
        assert inspect.signature(method) == inspect.signature(MethodType(forward, module))
        assert isinstance(module.forward, MethodType)
        assert method._torchdynamo_orig_callable == MethodType(forward, module)
        assert copy.deepcopy(module)(torch.ones(1)).tolist() == [10]


def test_copies_and_pickles_in_a_run_take_the_class_method() -> None:
    module: Any = Plain()
    with in_run(module):
        for copied in (copy.copy(module), copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert copied.forward.__self__ is copied
            assert "forward" not in vars(copied)
        assert copy.deepcopy(module.forward)(torch.ones(1)).tolist() == [2]
        method = pickle.loads(pickle.dumps(module.forward))
        assert method(torch.ones(1)).tolist() == [2]


def test_nothing_keeps_the_module_after_a_run() -> None:
    module = kind()()
    with in_run(module):
        module(torch.ones(1))
    gone = weakref.ref(module)
    del module
    gc.collect()
    assert gone() is None


class Exchanging(LogitsProcessor):  # type: ignore[misc]
    """Exchanges a method of a class of the model at the third token."""

    def __init__(self, change: Callable[[], None]) -> None:
        self._change = change
        self._steps = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Leave the scores as they are."""
        self._steps += 1
        if self._steps == 3:
            self._change()
        return scores


def test_a_generation_goes_on_with_what_a_processor_exchanges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = tiny_model(), batch()
    norm = modeling_qwen2.Qwen2RMSNorm
    usual = norm.forward

    def exchange() -> None:
        monkeypatch.setattr(norm, "forward", lambda self, x: usual(self, x).flip(-1))

    def run() -> Any:
        processors = LogitsProcessorList([Exchanging(exchange)])
        sequences = generate(model, inputs, **GREEDY, logits_processor=processors).sequences
        monkeypatch.setattr(norm, "forward", usual)
        return sequences

    plain = generate(model, inputs, **GREEDY).sequences
    untraced = run()
    assert not torch.equal(untraced, plain)
    with trace(model, path=tmp_path / "run.trace"):
        traced = run()
    assert torch.equal(traced, untraced)
