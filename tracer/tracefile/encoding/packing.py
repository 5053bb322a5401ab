"""Encode a step as its row in the table ``step``, and decode it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from tracer.schema.step import Step, StepHead
from tracer.tracefile.encoding.columns import CACHE, MODULES, SCORES
from tracer.tracefile.encoding.digests import digest
from tracer.tracefile.format import MAX_BLOB, MAX_JSON

_DEFLATE_FROM = 256
_JSON_START = b"{"

_FREE, _MAX_RATIO = 16 << 10, 32
"""A deflated head stands for at most so many bytes, and so many times its own: a small file must not unfold
into a large one. Real heads are deflated to a third or a fourth."""

_FREE_FIRST, _FREE_LATER = 8 << 20, 1 << 20
"""Bytes that equal numbers may take which a blob holds once. A run of NaN has such: in the prefill one for
each head and token, in later steps one for each head; module calls differ at least in their shapes."""


@dataclass(frozen=True)
class PackedStep:
    """The row of a step.

    Attributes:
        run: number of the run, from 1.
        step: number of the step, from 1.
        tensors: number of saved tensors.
        head: the head's JSON, deflated where that is shorter.
        scores: columnar blob, None where there are no scores.
        modules: the same for module calls.
        cache: the same for cache slots.
    """

    run: int
    step: int
    tensors: int
    head: bytes
    scores: bytes | None
    modules: bytes | None
    cache: bytes | None

    @property
    def digest(self) -> bytes:
        """Digest of all fields."""
        return digest(self.run, self.step, self.tensors, self.head, self.scores, self.modules, self.cache)

    @property
    def nbytes(self) -> int:
        """Bytes of the four blobs."""
        blobs = (self.head, self.scores, self.modules, self.cache)
        return sum(len(blob) for blob in blobs if blob is not None)


def pack_step(step: Step, tensors: int) -> PackedStep:
    """Encode a step.

    Args:
        step: the step.
        tensors: number of tensors saved with it.

    Raises:
        ValueError: its arrays do not fit each other, or it is too large to be stored.
    """
    free = _free(step.head.step)
    packed = PackedStep(
        run=step.head.run,
        step=step.head.step,
        tensors=tensors,
        head=_pack_head(step.head),
        scores=None if step.scores is None else SCORES.pack(step.scores, free=free),
        modules=None if step.modules is None else MODULES.pack(step.modules, free=_FREE),
        cache=None if step.cache is None else CACHE.pack(step.cache, free=free),
    )
    if packed.nbytes > MAX_BLOB:
        raise ValueError(f"step {packed.step} takes {packed.nbytes} bytes, more than a trace can hold")
    return packed


def unpack_step(packed: PackedStep, upgrade: Callable[[bytes], bytes] | None = None) -> Step:
    """Decode a step, without its layout and call shapes, which the caller adds.

    Args:
        packed: the row.
        upgrade: brings the head of an earlier format version to today's form.

    Raises:
        ValueError: a blob is damaged.
    """
    text = _inflate(packed.head)
    head = StepHead.model_validate_json(text if upgrade is None else upgrade(text))
    if (head.run, head.step) != (packed.run, packed.step):
        raise ValueError("the head belongs to another step")
    free = _free(packed.step)
    return Step(
        head=head,
        scores=None if packed.scores is None else SCORES.unpack(packed.scores, free=free),
        modules=None if packed.modules is None else MODULES.unpack(packed.modules, free=_FREE),
        cache=None if packed.cache is None else CACHE.unpack(packed.cache, free=free),
    )


def _free(step: int) -> int:
    """Bytes that equal numbers of a step may take."""
    return _FREE_FIRST if step == 1 else _FREE_LATER


def _pack_head(head: StepHead) -> bytes:
    data = head.model_dump_json().encode()
    if len(data) > MAX_JSON:
        raise ValueError(f"the head of step {head.step} takes {len(data)} bytes, more than a trace can hold")
    if len(data) < _DEFLATE_FROM:
        return data
    deflated = zlib.compress(data, 1)
    return deflated if len(deflated) < len(data) <= _most_text(deflated) else data


def _most_text(deflated: bytes) -> int:
    """Bytes of JSON that a deflated head may stand for."""
    return min(_FREE + _MAX_RATIO * len(deflated), MAX_JSON)


def _inflate(data: bytes) -> bytes:
    """JSON text of a stored head.

    Raises:
        ValueError: it is damaged, or unfolds into far more than a head does.
    """
    if data[:1] == _JSON_START:  # no zlib stream starts with this byte
        return data
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, _most_text(data))
    except zlib.error:
        raise ValueError("its head cannot be unpacked") from None
    if not inflater.eof or inflater.unused_data:
        raise ValueError("its head is cut off or too large")
    return text
