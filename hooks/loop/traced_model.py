"""Find the model whose decoding loop runs, in whatever it is wrapped."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from tracer.errors import UnsupportedError


def generating_model(model: object) -> PreTrainedModel:
    """The model whose ``_sample`` runs when ``generate()`` of an object is called.

    That is the model itself, or the one model inside of a wrapper: an adapter model of PEFT, the result of
    ``torch.compile``, data-parallel and sharding wrappers, a model with a value head, a model of text and
    images, or a module of one's own that holds a model.

    Args:
        model: a model or a wrapper.

    Raises:
        UnsupportedError: naming the class and what is needed: there is no such model or there are several,
            it is an encoder-decoder, or it cannot generate.
    """
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        raise UnsupportedError(f"{name} is not a torch module; a transformers *ForCausalLM model is needed.")
    found = [model] if isinstance(model, PreTrainedModel) else list(_inside(model))
    if not found:
        raise UnsupportedError(f"{name} has no generate(); a transformers *ForCausalLM model is needed.")
    if len(found) > 1:
        names = ", ".join(type(each).__name__ for each in found)
        raise UnsupportedError(f"{name} holds several models ({names}); trace the one that generates.")
    return _decoder_only(found[0])


def _inside(module: nn.Module) -> Iterator[PreTrainedModel]:
    """The outermost models in a module that can generate; a vision tower, say, cannot."""
    for child in module.children():
        if isinstance(child, PreTrainedModel) and child.can_generate():
            yield child
        else:
            yield from _inside(child)


def _decoder_only(model: PreTrainedModel) -> PreTrainedModel:
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise UnsupportedError(f"{name} is an encoder-decoder model; only decoder-only models are traced.")
    if not model.can_generate():
        raise UnsupportedError(f"{name} cannot generate text; a *ForCausalLM model is needed.")
    return model
