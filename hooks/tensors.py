"""Read tensors without touching them: their specs, and copies on the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple, cast

import numpy.typing as npt
import torch
from torch import Tensor

from hooks.faults import is_ours
from tracer.schema.base import of_valid
from tracer.schema.tensors import MAX_VALUES, TensorInfo

_ALIGNMENT = 16
"""Bytes; enough for every dtype."""

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


class Spec(NamedTuple):
    """Shape, dtype and device of a tensor, as torch has them.

    Between two forward passes a spec is taken in a microsecond; its record takes forty there, with nothing of
    it in the processor's caches, and one on the thread that writes, which makes many in a row.
    """

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @property
    def record(self) -> TensorInfo:
        """The record of it."""
        return info(*self)


def spec_of(tensor: Tensor) -> Spec:
    """Shape, dtype and device."""
    return Spec(tensor.shape, tensor.dtype, tensor.device)


def info_of(tensor: Tensor) -> TensorInfo:
    """The record of shape, dtype and device."""
    return info(tensor.shape, tensor.dtype, tensor.device)


@lru_cache(maxsize=256)
def info(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> TensorInfo:
    """The record of a tensor's spec."""
    return of_valid(TensorInfo, shape=tuple(shape), dtype=str(dtype)[6:], device=str(device))


def tensors_in(value: object) -> list[Tensor]:
    """Tensors directly inside a module's output or arguments: itself, or those of a tuple or mapping."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [item for item in value if isinstance(item, Tensor)]
    # Last, and the plain type first: asking whether something is a Mapping takes longer than all the rest.
    if isinstance(value, dict | Mapping):
        return [item for item in value.values() if isinstance(item, Tensor)]
    return []


def first_tensor(value: object) -> Tensor:
    """The first of :func:`tensors_in`."""
    return value if isinstance(value, Tensor) else tensors_in(value)[0]


def is_distributed(value: object) -> bool:
    """Whether the first tensor of an output is one of ``torch.distributed``: spread, or on its way."""
    found = tensors_in(value)
    return bool(found) and type(found[0]).__module__.startswith("torch.distributed.")


def is_spread(value: object) -> bool:
    """Whether the first tensor of an output is spread over several processes (a ``DTensor``).

    Its values are not all in this process, and to ask for them would have to be done in all processes alike.
    """
    return is_distributed(value) and hasattr(first_tensor(value), "to_local")


def has_local_part(value: object) -> bool:
    """Whether :func:`local_part` can be had of an output of ``torch.distributed``."""
    return is_spread(value) or (is_distributed(value) and hasattr(first_tensor(value), "trigger_wait"))


def local_part(output: Any) -> Tensor:
    """This process's part of an output that is spread over several, or on its way to it.

    Nothing is sent for it. It may have to be waited for, as whoever uses it next would have to.
    """
    part: Any = first_tensor(output)
    with torch.no_grad():  # else it would be part of a graph
        if is_spread(part):
            part = part.to_local()
        if hasattr(part, "trigger_wait"):
            part = part.trigger_wait()
    return cast(Tensor, part)


def to_host(tensor: Tensor) -> npt.NDArray[Any]:
    """The values as a NumPy array, without a copy where the tensor is on the CPU already.

    Floats that NumPy lacks (bfloat16) and half precision come as float32, which holds them exactly.
    """
    tensor = detached(tensor)
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    array: npt.NDArray[Any] = tensor.numpy() if tensor.is_cpu else tensor.cpu().numpy()
    return array


def to_host_all(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies on the host, in order; tensors that are there already are returned as they are.

    From a GPU all copies are queued into one piece of pinned memory, and waited for once.

    Args:
        tensors: tensors on any devices.
    """
    on_gpu = [tensor for tensor in tensors if tensor.is_cuda]
    pinned = _pinned(on_gpu) if on_gpu else None
    if pinned is None:
        return [tensor.cpu() for tensor in tensors]
    targets = iter(pinned)
    copies = [
        next(targets).copy_(tensor, non_blocking=True) if tensor.is_cuda else tensor.cpu()
        for tensor in tensors
    ]
    for device in {tensor.device for tensor in on_gpu}:
        torch.cuda.current_stream(device).synchronize()
    return copies


def _pinned(tensors: Sequence[Tensor]) -> list[Tensor] | None:
    """Pinned memory for copies of tensors on a GPU, one piece for all; None where there is none left."""
    starts = list(accumulate((-(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT for tensor in tensors), initial=0))
    try:
        memory = torch.empty(starts.pop(), dtype=torch.uint8, device="cpu", pin_memory=True)
    except RuntimeError as error:
        if not is_ours(error):
            raise
        return None
    return [
        memory[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        for tensor, start in zip(tensors, starts, strict=True)
    ]


def saved_bytes(tensor: Tensor) -> memoryview:
    """The values of a host tensor in its own dtype, little-endian, row-major; shares memory where it can."""
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def detached(tensor: Tensor) -> Tensor:
    """The tensor without its graph; most here have none, and asking is quicker than detaching."""
    return tensor.detach() if tensor.requires_grad else tensor


def clone(tensor: Tensor) -> Tensor:
    """A private copy, which nothing that happens later can change."""
    return detached(tensor).clone()


def is_small_integer(tensor: Tensor) -> bool:
    """Whether the values of an argument are recorded."""
    return tensor.dtype in _INTEGERS and tensor.numel() <= MAX_VALUES
