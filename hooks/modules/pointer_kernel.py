"""The kernel that reduces many tensors at once, wherever in a GPU's memory they are; needs Triton."""

from __future__ import annotations

import triton
import triton.language as tl

FLOAT32, FLOAT16, BFLOAT16 = (tl.constexpr(kind) for kind in range(3))
"""How the values of a tensor are stored, as a table says it."""


@triton.jit  # type: ignore[untyped-decorator]
def reduce_parts(addresses, parts, results, most: tl.constexpr):  # type: ignore[no-untyped-def]
    """Reduce one part of one tensor.

    Args:
        addresses: ``[n]`` int64, where each tensor begins; its values are in one piece.
        parts: ``[parts, 4]`` int64: which tensor, its first value, how many values, their kind.
        results: ``[parts, 4]`` float32: mean, sum of squares of what the values differ from it by, minimum
            and maximum; all four NaN if one of the values is.
        most: values of the largest part, a power of two.
    """
    part = tl.program_id(0)
    row = parts + part * 4
    address = tl.load(addresses + tl.load(row))
    first = tl.load(row + 1)
    count = tl.load(row + 2)
    kind = tl.load(row + 3)
    offsets = tl.arange(0, most)
    inside = offsets < count
    if kind == FLOAT32:
        values = tl.load(address.to(tl.pointer_type(tl.float32)) + first + offsets, mask=inside, other=0.0)
    elif kind == FLOAT16:
        halves = tl.load(address.to(tl.pointer_type(tl.float16)) + first + offsets, mask=inside, other=0.0)
        values = halves.to(tl.float32)
    else:
        brains = tl.load(address.to(tl.pointer_type(tl.bfloat16)) + first + offsets, mask=inside, other=0.0)
        values = brains.to(tl.float32)
    mean = tl.sum(values, axis=0) / count.to(tl.float32)
    centred = tl.where(inside, values - mean, 0.0)
    low = tl.min(tl.where(inside, values, float("inf")), axis=0)
    high = tl.max(tl.where(inside, values, float("-inf")), axis=0)
    # Minimum and maximum pass over NaN on a GPU.
    unordered = tl.max((values != values).to(tl.int32), axis=0) > 0
    into = results + part * 4
    tl.store(into, mean)
    tl.store(into + 1, tl.sum(centred * centred, axis=0))
    tl.store(into + 2, tl.where(unordered, float("nan"), low))
    tl.store(into + 3, tl.where(unordered, float("nan"), high))
