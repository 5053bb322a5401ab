"""safetensors: every saved tensor in its own dtype, or the whole KV cache after a step.

The format is eight bytes with the length of a JSON header, the header, and the values end to end. Written
here, since the library wants all tensors in memory at once; dtypes with wide items come first, as it does, so
that every tensor is aligned for its readers.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from tracer.errors import UsageError
from tracer.schema.tensors import ITEM_SIZES
from tracer.tracefile import SavedTensor, TraceRun
from tracer.tracefile.encoding.saved_tensor import tensor_bytes

_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int16": "I16",
    "float16": "F16",
    "bfloat16": "BF16",
    "int32": "I32",
    "float32": "F32",
    "int64": "I64",
    "float64": "F64",
}

MAX_HEADER = 100_000_000
"""Longest header that readers of the format accept, in bytes."""


@dataclass(frozen=True)
class Entry:
    """A tensor of the file.

    Attributes:
        name: its name there.
        dtype: torch's name without the prefix.
        shape: sizes of the dimensions.
        read: gets the values.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], SavedTensor]


def saved_entries(runs: Iterable[TraceRun]) -> Iterator[Entry]:
    """All saved tensors, named ``run/1/step/12/logits``.

    Args:
        runs: the runs to look into.
    """
    for run in runs:
        for step in run.steps.numbers:
            for name in run.tensor_names(step):
                dtype, shape = run.tensor_layout(step, name)
                yield Entry(f"run/{run.number}/step/{step}/{name}", dtype, shape, _reader(run, step, name))


def _reader(run: TraceRun, step: int, name: str) -> Callable[[], SavedTensor]:
    return lambda: run.saved_tensor(step, name)


def cache_entries(run: TraceRun, step: int) -> Iterator[Entry]:
    """Keys and values of all layers after a step, named ``cache/0/key``.

    Args:
        run: the run.
        step: number of the step.

    Raises:
        UsageError: the cache cannot be put together.
    """
    cache = run.cache_at(step)
    for layer in range(cache.layers):
        for part in ("key", "value"):
            dtype, shape = run.tensor_layout(step, f"kv/{layer}/{part}")
            whole = (*shape[:-2], cache.length, shape[-1])
            yield Entry(f"cache/{layer}/{part}", dtype, whole, _cache_reader(cache, layer, part))


def _cache_reader(cache: Any, layer: int, part: str) -> Callable[[], SavedTensor]:
    return lambda: cache.saved(layer, part)


def write_safetensors(file: BinaryIO, entries: Iterable[Entry], metadata: dict[str, str]) -> int:
    """Write tensors; one is in memory at a time.

    Args:
        file: where to.
        entries: the tensors.
        metadata: texts about the file.

    Returns:
        How many were written.

    Raises:
        UsageError: there is none, or one has a dtype that the format lacks.
    """
    ordered = sorted(entries, key=lambda entry: (-ITEM_SIZES.get(entry.dtype, 0), entry.dtype, entry.name))
    if not ordered:
        raise UsageError(
            "The trace holds no tensors; record with --capture tensors and --save, "
            "or choose another --format."
        )
    header = _header(ordered, metadata)
    file.write(struct.pack("<Q", len(header)))
    file.write(header)
    for entry in ordered:
        saved = entry.read()
        if (saved.dtype, saved.shape) != (entry.dtype, entry.shape):
            raise UsageError(f"{entry.name} changed while it was exported; is the run still going on?")
        file.write(saved.raw)
    return len(ordered)


def _header(ordered: Sequence[Entry], metadata: dict[str, str]) -> bytes:
    described: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for entry in ordered:
        if entry.dtype not in _DTYPES:
            raise UsageError(f"{entry.name} is {entry.dtype}, which safetensors does not know.")
        size = tensor_bytes(entry.dtype, entry.shape)
        described[entry.name] = {
            "dtype": _DTYPES[entry.dtype],
            "shape": entry.shape,
            "data_offsets": (offset, offset + size),
        }
        offset += size
    text = json.dumps(described).encode()
    if len(text) > MAX_HEADER:
        raise UsageError(
            f"{len(ordered)} tensors are more than one safetensors file can name; "
            "choose one run with --run, or --cache-at."
        )
    return text + b" " * (-len(text) % 8)
