"""A fingerprint of a model's weights, so that a repetition can tell whether it has the same ones."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from hashlib import blake2b

import torch
from torch import Tensor, nn

from hooks.faults import is_ours
from hooks.native import compiled
from hooks.tensors import saved_bytes, to_host_all
from tracer.messages import named
from tracer.schema.run import WeightsFingerprint

WHOLE = 4096
"""Parameters of at most so many elements are read whole."""

SAMPLED = 128
"""Elements that are read of a larger one, at places spread over all of it."""

_STEP = 2_654_435_761
"""Moves the places within their stretches: at even distances they would lie in few columns of a matrix."""

_DIGEST_SIZE = 16


def fingerprint(model: nn.Module, parameters: Mapping[str, Tensor] | None = None) -> WeightsFingerprint:
    """The fingerprint of all parameters: names, dtypes, shapes and the bits of some elements of each.

    It is the same on every device. A merged adapter or further training changes it; a change of single
    elements of a large parameter may not. It reads the weights anew each time, since PyTorch does not tell
    of changes made through ``data``; on a GPU it waits once.

    Args:
        model: the model.
        parameters: its parameters by name, each once, where they are at hand.
    """
    try:
        if getattr(model, "hf_quantizer", None) is not None or getattr(model, "is_quantized", False):
            return WeightsFingerprint(not_taken="the model is quantised")
        return _taken(dict(model.named_parameters()) if parameters is None else parameters)
    except Exception as error:
        if not is_ours(error):
            raise
        return WeightsFingerprint(not_taken=f"the parameters could not be read: {named(error)}")


def _taken(parameters: Mapping[str, Tensor]) -> WeightsFingerprint:
    quick = compiled.samples([*parameters.values()], WHOLE, SAMPLED, _STEP)
    left = {name: parameters[name] for name, sample in zip(parameters, quick, strict=True) if not sample}
    reasons = (_why_not(name, parameter) for name, parameter in left.items())
    reason = next((each for each in reasons if each is not None), None)
    if reason is not None:
        return WeightsFingerprint(not_taken=reason)
    with torch.no_grad():  # a sample is no part of a graph
        others = iter(to_host_all([_sample(parameter) for parameter in left.values()]))
    pieces, elements = list[bytes | memoryview](), 0
    for (name, parameter), sample in zip(parameters.items(), quick, strict=True):
        spec, read = _described(parameter.dtype, parameter.shape)
        pieces += f"{name} {spec}\n".encode(), sample or saved_bytes(next(others))
        elements += read
    digest = blake2b(b"".join(pieces), digest_size=_DIGEST_SIZE).hexdigest()
    return WeightsFingerprint(digest=digest, parameters=len(parameters), elements=elements)


def _why_not(name: str, parameter: Tensor) -> str | None:
    """Why the values of a parameter cannot be had, None where they can."""
    if type(parameter) not in (nn.Parameter, Tensor):
        return f"{name} is a {type(parameter).__name__}, not a plain tensor"
    if parameter.is_meta:
        return f"{name} is offloaded, its values are not in memory"
    if parameter.layout is not torch.strided or not parameter.numel():
        return f"{name} is not dense, or empty"
    if (parameter.is_cpu or parameter.is_cuda) and not parameter.untyped_storage().nbytes():
        return f"{name} has no memory at present"  # to read it would end the process
    return None


@functools.lru_cache(maxsize=64)
def _described(dtype: torch.dtype, shape: torch.Size) -> tuple[str, int]:
    """Dtype and shape as text, and how many elements are read of such a parameter."""
    size = shape.numel()
    return f"{dtype} {[*shape]}", size if size <= WHOLE else SAMPLED


def _sample(parameter: Tensor) -> Tensor:
    """``[elements]`` that lie one after the other."""
    size = parameter.numel()
    if size <= WHOLE:
        # A copy: memory that NumPy has been given cannot be resized any more, as sharding does.
        return parameter.detach().reshape(-1).clone()
    return torch.take(parameter, _places(size, parameter.device))


@functools.lru_cache(maxsize=64)
def _places(size: int, device: torch.device) -> Tensor:
    stretch = size // SAMPLED
    numbers = torch.arange(SAMPLED, dtype=torch.int64, device="cpu")
    return (numbers * stretch + numbers * _STEP % stretch).to(device)
