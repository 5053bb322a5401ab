"""The KV cache of any release: a list of layers since 4.54, and an argument of another name in newer ones."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import PretrainedConfig, StaticCache
from transformers.generation import utils


def cache_argument(cache: Any) -> dict[str, Any]:
    """The cache as an argument of ``generate()`` or of a model."""
    return {"cache" if "cache" in getattr(utils, "ALL_CACHE_NAMES", ()) else "past_key_values": cache}


def cache_in(output: Any) -> Any:
    """The cache in what a model or ``generate()`` returned."""
    return next(output[name] for name in ("past_key_values", "cache") if name in output)


def layers_of(cache: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values of all layers, also of a cache that is returned as a tuple of them."""
    if isinstance(cache, tuple):
        return [*cache]
    count = len(cache.layers) if hasattr(cache, "layers") else len(cache.key_cache)
    return [layer_of(cache, layer) for layer in range(count)]


def layer_of(cache: Any, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of a layer."""
    if hasattr(cache, "layers"):
        return cache.layers[layer].keys, cache.layers[layer].values
    return cache.key_cache[layer], cache.value_cache[layer]


def set_layer(cache: Any, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
    """Replace keys and values of a layer."""
    if hasattr(cache, "layers"):
        cache.layers[layer].keys, cache.layers[layer].values = key, value
    else:
        cache.key_cache[layer], cache.value_cache[layer] = key, value


def static_cache(config: PretrainedConfig, slots: int) -> StaticCache:
    """A cache of fixed size for one row."""
    needed = inspect.signature(StaticCache.__init__).parameters
    more: dict[str, Any] = {"max_batch_size": 1, "device": "cpu", "dtype": torch.float32}
    return StaticCache(config, max_cache_len=slots, **{name: more[name] for name in more if name in needed})
