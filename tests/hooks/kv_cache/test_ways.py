"""The quick ways to read a cache find what the general ones do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hooks.known_models import ANY_MODEL
from hooks.kv_cache.cache_layers import LAYERS
from hooks.kv_cache.view import CacheView, _growing_view, _view_layer_by_layer
from hooks.kv_cache.watch import CacheWatch
from hooks.native import compiled

KINDS = {name: type(name, (), {"__module__": "transformers.cache_utils"}) for name in LAYERS}
"""Classes of layers as newer releases have them."""

SIZES = [(1, 2, 5, 8), (2, 1, 5, 8), (1, 2, 6, 8), (1, 2, 5, 4)]


class Layered:
    """A cache that is a list of layers."""

    def __init__(self, kinds: list[str], tensors: Sequence[Tensor | None], *, offloading: bool) -> None:
        self.layers: list[Any] = []
        self.offloading = offloading
        for kind, tensor in zip(kinds, tensors, strict=False):
            self.layers.append(layer := KINDS[kind]())
            layer.keys, layer.values, layer.cumulative_length = tensor, tensor, 9


ORDINARY = st.lists(st.sampled_from(["DynamicLayer", "DynamicIndexedLayer"]), min_size=3, max_size=3)
TENSORS = [torch.zeros(size) for size in SIZES]


@given(
    kinds=ORDINARY | st.lists(st.sampled_from(sorted(KINDS)), max_size=3),
    tensors=st.lists(st.sampled_from(TENSORS[:1]), min_size=3)
    | st.lists(st.sampled_from([*TENSORS, torch.empty(0), None]), min_size=3),
    offloading=st.booleans(),
)
def test_layers_that_grow_are_viewed_as_layer_by_layer(
    kinds: list[str], tensors: list[Tensor | None], *, offloading: bool
) -> None:
    cache = Layered(kinds, tensors, offloading=offloading)
    quick, general = _growing_view(cache, ANY_MODEL, 0), _view_layer_by_layer(cache, ANY_MODEL, 7, 0)
    assert quick is None or _fields(quick) == _fields(general)


def test_the_layers_of_most_caches_are_viewed_at_once() -> None:
    cache = Layered(["DynamicLayer"] * 3, TENSORS[:1] * 3, offloading=False)
    assert _growing_view(cache, ANY_MODEL, 0) is not None


def _fields(view: CacheView) -> dict[str, object]:
    return {**vars(view), "tensors": [id(each) for each in view.tensors]}


class Listed:
    """A cache that has a list of keys and one of values."""

    __module__ = "transformers.cache_utils"
    __qualname__ = "DynamicCache"

    def __init__(self, layers: int, draw: torch.Generator, size: tuple[int, ...], dtype: torch.dtype) -> None:
        self.key_cache, self.value_cache = (
            [torch.randn(size, generator=draw).to(dtype) for _ in range(layers)] for _ in range(2)
        )


Listed.__name__ = "DynamicCache"


@pytest.mark.skipif(compiled._native is None, reason="built without a C compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@settings(deadline=None, max_examples=30)
@given(
    layers=st.integers(1, 5),
    size=st.sampled_from([(1, 3, 4, 8), (2, 1, 4, 8), (3, 2, 4, 5)]),
    fed=st.lists(st.integers(1, 3), min_size=1, max_size=5),
    damaged=st.tuples(st.integers(0, 4), st.integers(0, 4), st.booleans()),
)
def test_a_watch_finds_the_same_with_compiled_code_and_without(
    dtype: torch.dtype,
    layers: int,
    size: tuple[int, ...],
    fed: list[int],
    damaged: tuple[int, int, bool],
) -> None:
    native = compiled._native
    draw = torch.Generator().manual_seed(layers)
    cache = Listed(layers, draw, size, dtype)
    watches = [CacheWatch(ANY_MODEL, statistics=True, save=False) for _ in range(2)]
    when, layer, of_values = damaged
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hooks.kv_cache.proof.HOST_BUDGET", 1 << 10)  # layers take turns
        for step, count in enumerate([0, *fed]):
            for tensors in (cache.key_cache, cache.value_cache):
                tensors[:] = [
                    torch.cat([each, torch.randn(*size[:2], count, size[3], generator=draw).to(dtype)], dim=2)
                    for each in tensors
                ]
            if step == when and layer < layers:
                (cache.value_cache if of_values else cache.key_cache)[layer][0, 0, 1] += 1
            found = []
            for watch, parts in zip(watches, (native, None), strict=True):
                patch.setattr(compiled, "_native", parts)
                found.append(_step(watch, cache, count or size[2], size[0]))
            (*quick, norms), (*plain, others) = found
            assert quick == plain
            torch.testing.assert_close(norms, others)


def _step(watch: CacheWatch, cache: Listed, fed: int, rows: int) -> list[Any]:
    before = watch.after
    after = watch.update({"past_key_values": cache}, fed, 0)
    norms = watch.norms(before, None, rows)
    watch.read(before, fed)
    reading = watch.take()
    assert reading is not None
    check = reading.check(reading.sums, rows)
    watch.set_baseline(reading, reading.sums)
    return [after, check, [each.tolist() for each in reading.sums], norms]
