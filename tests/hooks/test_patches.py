"""Layers over methods: stacked, removed in any order, and gone without a trace."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hooks import patches
from hooks.method_layer import MethodLayer
from hooks.patches import add_layer, add_layers, below_layers, remove_layer, remove_layers, without_layers


class Counted:
    """An instance whose method says who was called."""

    def method(self) -> list[int]:
        return []


def are_forgotten(*layers: MethodLayer) -> bool:
    """Whether nothing of the layers is kept."""
    return not {*map(id, layers)} & patches._below.keys()


def numbered(number: int) -> Callable[..., list[int]]:
    def handler(inner: Any, args: Any, kwargs: Any) -> list[int]:
        return [number, *inner(*args, **kwargs)]

    return handler


@given(
    own=st.booleans(),
    removals=st.permutations(range(4)),
    together=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_layers_are_removed_in_any_order(own: bool, removals: list[int], together: list[bool]) -> None:
    target, other = Counted(), Counted()
    if own:
        vars(target)["method"] = list
    before = dict(vars(target))
    layers: list[tuple[MethodLayer, MethodLayer]] = []
    for number, at_once in enumerate(together):
        pair = tuple(MethodLayer(each.method, numbered(number)) for each in (target, other))
        layers.append(pair)  # type: ignore[arg-type]
        if at_once:
            add_layers("method", zip((target, other), pair, strict=True))
        else:
            add_layer(target, "method", pair[0])
            add_layer(other, "method", pair[1])
    left = [3, 2, 1, 0]
    for number in removals:
        assert target.method() == other.method() == left
        assert below_layers(vars(target), "method") is before.get("method")
        assert without_layers(vars(target)) == before
        remove_layers("method", zip((target, other), layers[number], strict=True))
        remove_layer(target, "method", layers[number][0])  # a second time does nothing
        left.remove(number)
    assert (vars(target), vars(other)) == (before, {})
    assert are_forgotten(*itertools.chain.from_iterable(layers))


def test_what_somebody_has_put_over_a_layer_stays() -> None:
    target = Counted()
    low = MethodLayer(target.method, numbered(1))
    add_layer(target, "method", low)
    theirs = vars(target)["method"] = lambda: [2, *low()]
    high = MethodLayer(target.method, numbered(3))
    add_layer(target, "method", high)
    assert below_layers(vars(target), "method") is theirs
    remove_layer(target, "method", low)
    assert target.method() == [3, 2, 1]
    remove_layer(target, "method", high)
    assert vars(target) == {"method": theirs}
    assert target.method() == [2, 1]
    assert are_forgotten(low, high)


def test_an_instance_that_got_the_dictionary_of_another_is_copied_without_layers() -> None:
    module, twin = nn.Linear(2, 2), nn.Linear(2, 2)
    layer = MethodLayer(module.forward)
    add_layer(module, "forward", layer)
    vars(twin).update(vars(module))
    assert "forward" not in without_layers(vars(twin))
    remove_layer(module, "forward", layer)
    assert "forward" not in vars(module)
    assert are_forgotten(layer)


@pytest.mark.parametrize("at", range(3))
def test_removing_goes_on_where_it_was_interrupted(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = [Counted() for _ in range(3)]
    layers = [MethodLayer(target.method) for target in targets]
    add_layers("method", zip(targets, layers, strict=True))
    restore, calls = patches._restore, list[int]()

    def interrupted(*args: Any) -> None:
        restore(*args)
        calls.append(1)
        if len(calls) == at + 1:
            raise TimeoutError

    monkeypatch.setattr(patches, "_restore", interrupted)
    with pytest.raises(TimeoutError):
        remove_layers("method", zip(targets, layers, strict=True))
    remove_layers("method", zip(targets, layers, strict=True))
    assert [vars(target) for target in targets] == [{}, {}, {}]
    assert are_forgotten(*layers)
    assert not any("method" in vars(copy.copy(target)) for target in targets)
