"""The modules of a model, walked once: what PyTorch's own walks find."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hooks.modules.model_modules import ModelModules
from tests.support.models import tiny_model


class Node(nn.Module):
    """Has children, parameters and empty places for both."""

    def __init__(self, children: list[nn.Module | None], parameters: list[nn.Parameter | None]) -> None:
        super().__init__()
        for number, child in enumerate(children):
            self.register_module(f"m{number}", child)
        for number, parameter in enumerate(parameters):
            self.register_parameter(f"p{number}", parameter)


class Hiding(nn.Module):
    """Says itself which modules it has."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.hides = False

    def named_modules(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Module]]:
        yield from [("", self)] if self.hides else super().named_modules(*args, **kwargs)


SHARED = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
parameters = st.lists(st.sampled_from([None, *SHARED]), max_size=3)
leaves = st.sampled_from([Node([], [SHARED[0]]), Node([], [nn.Parameter(torch.ones(1)), None])])
trees = st.recursive(
    leaves,
    lambda inner: st.builds(Node, st.lists(st.none() | inner, max_size=3), parameters),
    max_leaves=8,
)


@given(model=trees)
def test_parameters_are_those_of_named_parameters(model: nn.Module) -> None:
    modules = ModelModules(model)
    assert modules.are_all_of(model)
    found, expected = modules.parameters(), dict(model.named_parameters())
    assert [*found] == [*expected]
    assert all(found[name] is parameter for name, parameter in expected.items())


def test_tied_weights_are_counted_once() -> None:
    model = tiny_model()
    model.lm_head.weight = model.model.embed_tokens.weight
    assert [*ModelModules(model).parameters()] == [name for name, _ in model.named_parameters()]


def replace(model: Any) -> None:
    model[0][1] = nn.Linear(2, 2)


def add(model: Any) -> None:
    model[0].append(nn.ReLU())


def remove(model: Any) -> None:
    del model[0][1]


def empty(model: Any) -> None:
    model[0]._modules["1"] = None


def swap(model: Any) -> None:
    model[0][0], model[0][1] = model[0][1], model[0][0]


def rename(model: Any) -> None:
    model[0]._modules = {f"n{name}": child for name, child in model[0]._modules.items()}


@pytest.mark.parametrize("change", [replace, add, remove, empty, swap, rename])
def test_a_change_anywhere_is_noticed(change: Any) -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.ReLU())
    modules = ModelModules(model)
    assert modules.are_all_of(model)
    change(model)
    assert not modules.are_all_of(model)
    assert ModelModules(model).are_all_of(model)


def test_a_module_that_finds_others_by_itself_is_asked() -> None:
    hiding = Hiding(nn.ReLU())
    model = nn.Sequential(hiding)
    modules = ModelModules(model)
    assert modules.are_all_of(model)
    hiding.hides = True
    assert not modules.are_all_of(model)
