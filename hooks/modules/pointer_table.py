"""Statistics of all outputs of a step on a GPU by one kernel, which finds them by a table of pointers.

Joined, every group of outputs that are alike takes a handful of operations, and each costs its launch. Here
only the addresses change from step to step: what parts the outputs have stays on the device.

The kernel needs Triton, which comes with torch's builds for CUDA. Where it is missing or fails, outputs are
joined (:func:`hooks.modules.statistics.join`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hooks.faults import is_ours
from hooks.modules.statistics import Statistics, Together, join, statistics_of_parts

_PART = 4096
"""Most values that one program of the kernel reduces; they fit its registers, a power of two."""

_KINDS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
"""The kernel's numbers for how values are stored."""

_DEVICE_TYPES = {"cuda"}


class KernelError(Exception):
    """The kernel cannot be used here."""


class Kernel(AbstractContextManager["Kernel"]):
    """The kernel, which is loaded when it is first launched.

    As a context it turns a fault in using it into a :class:`KernelError`, and is given up for good.
    """

    def __init__(self) -> None:
        self._usable = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and is_ours(error):
            self._usable = False
            raise KernelError from error

    def takes(self, tensor: torch.Tensor) -> bool:
        """Whether it can reduce a tensor: on a GPU, of a common dtype, its values in one piece."""
        return (
            self._usable
            and tensor.device.type in _DEVICE_TYPES
            and tensor.dtype in _KINDS
            and _lies_plainly(tensor)
        )

    def launch(self, addresses: Sequence[int], parts: torch.Tensor, results: torch.Tensor, most: int) -> None:
        """Queue it on the current stream of the device.

        Args:
            addresses: where each tensor begins.
            parts: ``[parts, 4]`` as the kernel takes them.
            results: ``[parts, 4]`` float32, which it fills.
            most: values of the largest part.
        """
        if parts.is_cuda and _is_interpreted():
            raise RuntimeError("Triton's interpreter cannot read what is in a GPU's memory")
        table = _to(parts.device, torch.tensor(addresses, device="cpu"))
        with torch.cuda.device(parts.device) if parts.is_cuda else nullcontext():
            # Newer releases of Triton warn of a default that will change.
            _compiled()[(len(parts),)](table, parts, results, most, enable_fp_fusion=True)


@functools.cache
def _compiled() -> Any:
    from hooks.modules.pointer_kernel import reduce_parts

    return reduce_parts


@functools.cache
def _is_interpreted() -> bool:
    """Whether Triton was told to interpret kernels: it would follow addresses of a GPU on the host."""
    import triton

    return not isinstance(_compiled(), triton.runtime.JITFunction)


def _lies_plainly(tensor: torch.Tensor) -> bool:
    """Whether the values are in one piece of memory, and not the other way round there."""
    return tensor.is_contiguous() and not tensor.is_neg()


KERNEL = Kernel()


@dataclass(frozen=True)
class PointerTable:
    """Tensors on one device that the kernel reduces together.

    Attributes:
        members: which of the tensors.
        parts: ``[parts, 4]`` on the device: which member, its first value, how many values, their kind.
        sizes: ``[parts]`` values of each part.
        counts: ``[n]`` parts of each member.
    """

    members: list[int]
    parts: torch.Tensor
    sizes: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    def fits(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether other tensors of the same specs can be reduced so: their values are in one piece too."""
        return all(_lies_plainly(tensors[index]) for index in self.members)

    def reduce(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Statistics of the parts of the tensors.

        Args:
            tensors: all of them, members or not; the members have the specs of those that the table was made
                for.

        Returns:
            ``[parts, 4]`` on the device: mean, sum of squares about it, low, high.

        Raises:
            KernelError: it cannot be compiled or launched.
        """
        with KERNEL:
            results = torch.empty(self.parts.shape, dtype=torch.float32, device=self.parts.device)
            addresses = [tensors[index].data_ptr() for index in self.members]
            KERNEL.launch(addresses, self.parts, results, _PART)
        return results

    def complete(self, reduced: npt.NDArray[np.float32]) -> Statistics:
        """Statistics of whole tensors from those of their parts.

        Args:
            reduced: a copy of the result of :meth:`reduce` on the host.
        """
        return statistics_of_parts(reduced.T, self.sizes, self.counts)


def put_together(tensors: Sequence[torch.Tensor]) -> list[Together]:
    """How tensors are reduced together: by the kernel those that it takes, and the others joined.

    Args:
        tensors: at least one element each.

    Raises:
        KernelError: the kernel takes none from now on.
    """
    takes = [KERNEL.takes(tensor) for tensor in tensors]
    return [
        *tables(tensors, [index for index, taken in enumerate(takes) if taken]),
        *join(tensors, [index for index, taken in enumerate(takes) if not taken]),
    ]


def tables(tensors: Sequence[torch.Tensor], indexes: Iterable[int]) -> list[PointerTable]:
    """A table for each device.

    Args:
        tensors: at least one element each.
        indexes: those of them that the kernel takes.

    Raises:
        KernelError: a table cannot be put on its device.
    """
    devices: dict[torch.device, list[int]] = {}
    for index in indexes:
        devices.setdefault(tensors[index].device, []).append(index)
    with KERNEL:
        return [_table(tensors, members, device) for device, members in devices.items()]


def _table(tensors: Sequence[torch.Tensor], members: list[int], device: torch.device) -> PointerTable:
    values = np.array([tensors[index].numel() for index in members])
    kinds = np.array([_KINDS[tensors[index].dtype] for index in members])
    counts = -(-values // _PART)
    member = np.repeat(np.arange(len(members)), counts)
    starts = (np.arange(len(member)) - (np.cumsum(counts) - counts)[member]) * _PART
    sizes = np.minimum(values[member] - starts, _PART)
    parts = torch.from_numpy(np.stack((member, starts, sizes, kinds[member]), axis=1))
    return PointerTable(members, _to(device, parts), sizes, counts)


def _to(device: torch.device, host: torch.Tensor) -> torch.Tensor:
    """A copy on a device, without waiting for it: torch keeps pinned memory until it has been read."""
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host


def prepare_kernel(parameters: Iterable[torch.Tensor]) -> None:
    """Compile the kernel before a run begins: in a step it would count into its time.

    Args:
        parameters: of the model that is about to generate.
    """
    for device in {parameter.device for parameter in parameters}:
        _prepare(device)


@functools.cache
def _prepare(device: torch.device) -> None:
    if device.type in _DEVICE_TYPES:
        with suppress(KernelError), KERNEL:
            tensor = torch.zeros(1, device=device)
            tables([tensor], [0])[0].reduce([tensor])
