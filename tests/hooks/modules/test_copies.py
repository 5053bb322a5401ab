"""Copies of a module that are made in a run are those that would be made without."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
