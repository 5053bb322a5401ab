"""What a cache lacks is found out quickly, and what it has is found as Python finds it."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from hooks.kv_cache.view import _attribute


class Plain:
    def __init__(self) -> None:
        self.other = 1


class Variable(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [1]


class OfTheClass(Plain):
    layers = (2,)


class Computed(Plain):
    @property
    def layers(self) -> list[int]:
        return [self.other]


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [3]


class Slotted:
    __slots__ = ("layers",)

    def __init__(self) -> None:
        self.layers = [4]


class HandedOn:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class HandingModule(nn.Module):
    def __getattr__(self, name: str) -> Any:
        return [5] if name == "layers" else super().__getattr__(name)


OF_ITS_OWN = [Plain(), Variable(), OfTheClass(), Computed(), Module(), nn.Module(), Slotted()]
HANDED_ON = [HandedOn(Variable()), HandedOn(Plain()), HandingModule()]


@pytest.mark.parametrize("cache", [*OF_ITS_OWN, *HANDED_ON, object(), None, (1, 2)])
def test_an_attribute_is_found_as_python_finds_it(cache: Any) -> None:
    for name in ("layers", "window_length"):
        assert _attribute(cache, name) == getattr(cache, name, None)


def test_it_is_looked_for_each_time() -> None:
    cache = Plain()
    assert _attribute(cache, "layers") is None
    vars(cache)["layers"] = [6]
    assert _attribute(cache, "layers") == [6]
