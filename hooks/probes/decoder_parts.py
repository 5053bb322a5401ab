"""Find the parts of a decoder by their place in the model, whatever they are called."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel


def decoder_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The decoder layers in order: the longest ``ModuleList`` that is in no other; empty without one.

    Lists inside of it are parts of a layer, such as its experts.
    """
    return list(max(_outermost_lists(model), key=len, default=[]))


def _outermost_lists(module: nn.Module) -> Iterator[nn.ModuleList]:
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from _outermost_lists(child)


def beside_layers(model: PreTrainedModel, layers: list[nn.Module]) -> list[nn.Module]:
    """The outermost modules that neither hold layers nor are part of one: embeddings, norms, heads.

    Args:
        model: the model.
        layers: its layers.
    """
    return list(_beside(model, {id(layer) for layer in layers}))


def _beside(module: nn.Module, layers: set[int]) -> Iterator[nn.Module]:
    for child in module.children():
        if id(child) in layers:
            continue
        if any(id(inner) in layers for inner in child.modules()):
            yield from _beside(child, layers)
        else:
            yield child


def attention_of(layer: nn.Module) -> nn.Module | None:
    """The attention module of a layer; None without one."""
    return next((module for module in layer.modules() if "attention" in type(module).__name__.lower()), None)
