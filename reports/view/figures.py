"""How figures are written, the same in every report."""

from __future__ import annotations

from collections.abc import Sequence

from tracer.schema.tensors import TensorInfo

EN_DASH = "\u2013"


def shape(sizes: Sequence[int]) -> str:
    """A shape as torch users write it: ``[1, 29, 3584]``."""
    return f"[{', '.join(str(size) for size in sizes)}]"


def tensor(info: TensorInfo) -> str:
    """Shape, dtype and device: ``[1, 29, 3584]  bfloat16  cuda:0``."""
    return f"{shape(info.shape)}  {info.dtype}  {info.device}"


def count(number: int) -> str:
    """A count with thousands marked: ``152,064``."""
    return f"{number:,}"


def plural(number: int, noun: str, plural_noun: str | None = None) -> str:
    """A count with its noun: ``1 step``, ``2 steps``."""
    return f"{count(number)} {noun if number == 1 else plural_noun or noun + 's'}"


def probability(value: float) -> str:
    """A probability with four digits; what would round to an untrue 0 or 1 is said to be near it."""
    if 0 < value < 0.00005:
        return "<0.0001"
    if 0.99995 <= value < 1:
        return ">0.9999"
    return f"{value:.4f}"


def score(value: float) -> str:
    """A logit or score with four digits: ``35.8929``, ``-inf``."""
    return f"{value:.4f}"


def bits(value: float) -> str:
    """Entropy in bits: ``0.7087 bits``."""
    return f"{value:.4f} bits"


def statistic(value: float) -> str:
    """A statistic with three significant digits: ``-0.0213``, ``14.2``, ``24900``, ``1.31e+06``."""
    return f"{float(f'{value:.3g}'):.0f}" if 1000 <= abs(value) < 999_500 else f"{value:.3g}"


def byte_size(number: int) -> str:
    """A size in bytes: ``58.0 KiB``."""
    size = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{number} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def duration(seconds: float) -> str:
    """A duration: ``250 ms``, ``2.05 s``, ``3 min 20 s``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 120:
        return f"{seconds:.2f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def span(first: int, last: int) -> str:
    """Numbers from first to last, joined by an en dash; one number alone."""
    return str(first) if first == last else f"{first}{EN_DASH}{last}"
