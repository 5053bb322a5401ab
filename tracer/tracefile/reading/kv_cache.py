"""The KV cache at any step, assembled from the slots that each step added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tracer.errors import UsageError
from tracer.schema.tensors import ITEM_SIZES
from tracer.tracefile.encoding.saved_tensor import SavedTensor

Part = Literal["key", "value"]


@dataclass(frozen=True)
class TraceCache:
    """Keys and values of every layer after a step; each is read when it is accessed.

    Attributes:
        step: number of the step.
        layers: number of layers.
        length: slots in use.

    Where rows move from step to step, ``_rows`` has for each step the row in which each row of the cache was.
    """

    step: int
    layers: int
    length: int
    _read: Callable[[int, str], SavedTensor]
    _steps: Sequence[int]
    _rows: Sequence[Sequence[int]] = ()

    def key(self, layer: int) -> npt.NDArray[Any]:
        """Keys of a layer, ``[batch, KV heads, slots, head dim]``; bfloat16 is widened to float32.

        Args:
            layer: from 0.
        """
        return self.saved(layer, "key").array()

    def value(self, layer: int) -> npt.NDArray[Any]:
        """Values of a layer, like :meth:`key`."""
        return self.saved(layer, "value").array()

    def saved(self, layer: int, part: Part) -> SavedTensor:
        """Keys or values of a layer in their own dtype, byte for byte.

        Args:
            layer: from 0.
            part: which.

        Raises:
            UsageError: there is no such layer, or its parts do not fit together.
            TraceFileError: the trace is damaged.
        """
        if not 0 <= layer < self.layers:
            raise UsageError(f"The cache has layers 0 to {self.layers - 1}, not {layer}.")
        pieces = self._pieces(layer, part)
        dtype = pieces[0].dtype
        shapes = {piece.shape[:-2] + piece.shape[-1:] for piece in pieces}
        if len(shapes) != 1 or {piece.dtype for piece in pieces} != {dtype} or len(pieces[0].shape) < 2:
            raise UsageError(f"The saved slots of layer {layer} do not fit together.")
        # Bytes are moved, never read as numbers: every dtype comes through unchanged.
        width = ITEM_SIZES[dtype]
        arrays = [
            np.frombuffer(piece.raw, dtype=np.uint8).reshape(*piece.shape[:-1], piece.shape[-1] * width)
            for piece in pieces
        ]
        whole = np.concatenate(self._by_row(arrays), axis=-2)
        if whole.shape[-2] != self.length:
            raise UsageError(
                f"The saved slots of layer {layer} are {whole.shape[-2]}; the cache had {self.length}."
            )
        shape = (*whole.shape[:-1], whole.shape[-1] // width)
        return SavedTensor(dtype, shape, whole.tobytes())

    def _by_row(self, arrays: Sequence[npt.NDArray[np.uint8]]) -> Sequence[npt.NDArray[np.uint8]]:
        """The slots of each step by the rows of the cache."""
        if not self._rows:
            return arrays
        return [array[[*rows]] for array, rows in zip(arrays, self._rows, strict=True)]

    def _pieces(self, layer: int, part: Part) -> list[SavedTensor]:
        """The slots of each step."""
        try:
            return [self._read(number, f"kv/{layer}/{part}") for number in self._steps]
        except KeyError:
            raise UsageError(f"The {part}s of layer {layer} were not saved in every step.") from None
