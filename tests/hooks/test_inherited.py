"""Methods that are exchanged while stand-ins are over them: what an untraced program calls is called."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import pickle
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
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


@pytest.mark.parametrize("add", [nn.Module.register_forward_hook, nn.Module.register_forward_pre_hook])
def test_a_change_holds_for_a_module_with_hooks(add: Any) -> None:
    def made() -> Any:
        module = kind()()
        add(module, lambda *_: None)
        return module

    module = made()
    with in_run(module):
        traced = outcomes(module, in_the_class)
    assert traced == outcomes(made(), in_the_class)


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


def call(function: Callable[[Tensor], Tensor], number: float) -> list[float]:
    """What a function returns that was got elsewhere."""
    return function(torch.tensor([number])).tolist()


def test_a_method_that_was_kept_stays_what_it_was() -> None:
    module = kind()()
    with in_run(module):
        kept, in_the_middle = module.forward, functools.partial(module.forward)
        in_the_class(module)
        assert call(kept, 2) == call(in_the_middle, 2) == [3]
        assert module.forward(torch.ones(1)).tolist() == module.forward(torch.ones(1)).tolist() == [10]
        assert (kept.__self__, kept.__func__) == (module, Plain.forward)


def wrapped(module: Any) -> None:
    kept = module.forward
    type(module).forward = lambda _, x: 5 * kept(x)


def wrapped_by_name(module: Any) -> None:
    kept = {"forward": module.forward}
    type(module).forward = lambda _, x: 5 * kept["forward"](x)


def wrapped_with_help(module: Any) -> None:
    kept = {"forward": module.forward}

    def help_out(x: Tensor) -> Any:
        return kept["forward"](x)

    type(module).forward = lambda _, x: 5 * help_out(x)


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("wrap", [wrapped, wrapped_by_name, wrapped_with_help])
def test_a_class_may_get_a_method_that_calls_the_one_before(
    wrap: Callable[[nn.Module], None], runs: int
) -> None:
    module = kind()()
    with in_run(*[module] * runs):
        traced = outcomes(module, wrap)
    assert traced == outcomes(kind()(), wrap) == [[3], [15], [15]]


def made_at_the_first_look(_module: Any) -> Any:
    return functools.cached_property(lambda module: lambda x: x + len(vars(module)["_modules"]))


def of_the_instance(_module: Any) -> Any:
    class Own:
        def __get__(self, instance: Any, owner: Any) -> Any:
            return vars(instance).get("forward", lambda x: 4 * x)

    return Own()


@pytest.mark.parametrize("descriptor", [made_at_the_first_look, of_the_instance])
def test_a_class_may_give_methods_in_its_own_way(descriptor: Callable[[Any], Any]) -> None:
    def made() -> Any:
        module = kind()()
        found = type(module).forward = descriptor(module)
        if isinstance(found, functools.cached_property):
            found.__set_name__(type(module), "forward")
        return module

    module = made()
    with in_run(module):
        traced = module(torch.ones(1)).tolist()
    assert traced == made()(torch.ones(1)).tolist()


@pytest.mark.parametrize("fault", [AttributeError("none"), NotImplementedError("none")])
def test_a_method_that_cannot_be_looked_up_is_no_fault_before_it_is_called(fault: Exception) -> None:
    def look(_module: Any) -> Any:
        raise fault

    module = kind()()
    type(module).forward = property(look)
    messages = []
    for around in (contextlib.nullcontext(), in_run(nn.Sequential(module))):
        with around, pytest.raises(type(fault)) as caught:
            module(torch.ones(1))
        messages.append((str(caught.value), caught.value.__context__))
    assert messages[0] == messages[1]


def test_what_is_missing_is_said_as_without_a_run() -> None:
    module = kind()()
    with in_run(module):
        type(module).forward = Missing()
        with pytest.raises(AttributeError, match=r"^'Kind' object has no attribute 'forward'$") as caught:
            module(torch.ones(1))
    assert caught.value.__context__ is None


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
