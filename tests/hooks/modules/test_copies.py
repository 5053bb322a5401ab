"""Copies of a module that are made in a run are those that would be made without."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from hooks.modules.model_modules import ModelModules

pytestmark = pytest.mark.usefixtures("both_ways")


class Doubled(nn.Module):
    """A parametrization."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Double a weight."""
        return 2 * weight


class Remade(nn.Linear):
    """A layer that is unpickled as another one."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return nn.Identity, ()


def plain() -> Any:
    return nn.Linear(2, 2)


def parametrized() -> Any:
    return parametrize.register_parametrization(nn.Linear(2, 2), "weight", Doubled())


def graph() -> Any:
    return fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.Tanh()))


def pickled(module: nn.Module) -> Any:
    return pickle.loads(pickle.dumps(module))


def copied_twice(module: nn.Module) -> Any:
    return copy.deepcopy(copy.deepcopy(module))


@contextmanager
def in_run(module: nn.Module) -> Iterator[None]:
    """Within a run."""
    modules = ModelModules(module)
    modules.enter()
    try:
        yield
    finally:
        modules.leave()


WAYS = [copy.copy, copy.deepcopy, pickled, copied_twice]


@pytest.mark.parametrize(
    ("made", "copied"),
    [*itertools.product((plain, graph), WAYS), *itertools.product((parametrized,), WAYS[1::2])],
)
def test_a_copy_is_a_module_of_its_own(made: Callable[[], Any], copied: Callable[[Any], Any]) -> None:
    module, x = made(), torch.ones(1, 2)
    without = copied(module)
    with in_run(module):
        found = copied(module)
    assert vars(found).keys() == vars(without).keys()
    assert torch.equal(found(x), module(x))
    if copied is not copy.copy:
        with torch.no_grad():
            next(found.parameters()).zero_()
        assert not torch.equal(found(x), module(x))


class Own(nn.Module):
    """Copies itself in one way or another."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.settings, self.factor = way, {"factor": 2}, 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        return self.factor * x

    def __deepcopy__(self, memo: Any) -> Own:
        copied = Own(self.way)
        if self.way == "sets":
            copied.forward = MethodType(lambda _, x: 9 * x, copied)  # type: ignore[method-assign]
        if self.way == "takes":
            vars(copied).update(vars(self))
        copied.factor = 3
        return copied

    def __reduce__(self) -> Any:
        return made_of, (self.way, self.settings)

    def __getstate__(self) -> Any:
        return {"way": self.way}


def made_of(way: str, settings: dict[str, int]) -> Own:
    """What an instance is unpickled as."""
    made = Own(way)
    made.settings = settings
    return made


class Stating(Own):
    """Says itself what its copies are made from."""

    __deepcopy__: Any = None
    __reduce__ = object.__reduce__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("way", ["plain", "sets", "takes"])
@pytest.mark.parametrize("kind", [Own, Stating])
def test_a_module_copies_itself_as_it_does_without_a_run(kind: Any, way: str, own: bool) -> None:
    def made() -> Any:
        module = kind(way)
        module.register_forward_hook(lambda *_: None)
        if own:
            module.forward = MethodType(lambda self, x: 5 * self.factor * x, module)
        return module

    def outcome(module: Any) -> Any:
        module(torch.ones(1))
        copies = copy.deepcopy(module), copy.copy(module)
        found = [each(torch.ones(1)).tolist() for each in copies]
        names = [sorted(name for name in vars(each) if "_hooks" not in name) for each in copies]
        return found, names, copies[1].settings is module.settings, type(vars(copies[0]).get("forward"))

    module = made()
    with in_run(module):
        traced = outcome(module)
    assert traced == outcome(made())


def test_a_class_that_is_exchanged_says_what_its_copies_are() -> None:
    module = nn.Linear(2, 2)
    with in_run(module):
        module.__class__ = Remade
        assert type(copy.deepcopy(module)) is type(copy.copy(module)) is type(pickled(module)) is nn.Identity


def test_a_replica_for_another_gpu_calls_itself() -> None:
    model: Any = nn.Sequential(nn.DataParallel(nn.Sequential(nn.Linear(2, 2), nn.Tanh())), nn.Linear(2, 2))
    untouched = [dict(vars(module)) for module in model.modules()]
    linear = model[0].module[0]
    modules, x = ModelModules(model), torch.ones(1, 2)
    modules.enter()
    # As nn.parallel.replicate() does, which only makes replicas of what is on a GPU.
    replica = linear._replicate_for_data_parallel()
    replica.weight, replica.bias = torch.eye(2), torch.ones(2)
    assert replica(x).tolist() == [[2, 2]]
    assert torch.equal(model(x), model[1](torch.tanh(linear(x))))
    assert replica._replicate_for_data_parallel().__dict__.keys() == replica.__dict__.keys()
    assert not {"forward", "_call_impl", "__reduce_ex__"} & vars(replica).keys()
    modules.leave()
    assert [dict(vars(module)) for module in model.modules()] == untouched
