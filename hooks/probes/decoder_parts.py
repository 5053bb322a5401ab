"""Find the parts of a decoder by their place in the model, whatever they are called."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from tracer.errors import UnsupportedError


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


def final_norm(model: PreTrainedModel) -> nn.Module:
    """The norm that the last layer's output goes through: a neighbour of the list of layers.

    Raises:
        UnsupportedError: there is none, or it cannot be told which of several it is.
    """
    layers = decoder_layers(model)
    for parent in model.modules():
        children = list(parent.children())
        place = next((i for i, child in enumerate(children) if _is_list_of(child, layers)), None)
        if place is not None:
            # A norm of the embeddings stands before the layers, the final one behind them if there are both.
            norms = _norms(children[place + 1 :]) or _norms(children[:place])
            if len(norms) == 1:
                return norms[0]
    raise UnsupportedError(f"{type(model).__name__}: no final norm was found beside its layers.")


def output_head(model: PreTrainedModel) -> nn.Module:
    """The module that turns hidden states into logits.

    Raises:
        UnsupportedError: there is none.
    """
    head = model.get_output_embeddings()
    if isinstance(head, nn.Module):
        return head
    raise UnsupportedError(f"{type(model).__name__}: it has no output head.")


def attention_of(layer: nn.Module) -> nn.Module | None:
    """The attention module of a layer; None without one."""
    return next((module for module in layer.modules() if "attention" in type(module).__name__.lower()), None)


def _is_list_of(module: nn.Module, layers: list[nn.Module]) -> bool:
    return isinstance(module, nn.ModuleList) and bool(layers) and list(module) == layers


def _norms(modules: list[nn.Module]) -> list[nn.Module]:
    return [module for module in modules if "norm" in type(module).__name__.lower()]
