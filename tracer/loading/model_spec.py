"""Which model, and how to load it; whatever can be refused without torch is refused here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tracer.errors import UsageError
from tracer.nearest_word import suggestion

DTYPES = ("auto", "float32", "float16", "bfloat16")

ATTENTIONS = ("sdpa", "eager", "flash_attention_2")
"""Attention implementations of the traced release."""

ALLOW_DAMAGED = "--allow-damaged"
"""The option that loads a checkpoint that does not fit its model."""

_DEVICE_MAPS = ("auto", "cpu", "cuda", "cuda:0", "balanced", "balanced_low_0", "sequential")


@dataclass(frozen=True)
class ModelSpec:
    """Which model, and how to load it.

    Attributes:
        name: hub id or folder, of a model or of a PEFT adapter; None for the demo model.
        dtype: dtype of the weights, ``auto`` for the checkpoint's own.
        device_map: ``auto``, ``cpu``, ``cuda``, ``cuda:0`` …, or a device for each module prefix; None for a
            GPU when there is one.
        attention: attention implementation, None for the model's default.
        revision: branch, tag or commit on the hub.
        trust_remote_code: whether code that comes with the model may run.
        allow_damaged: load a checkpoint whose weights do not fit the model, or whose generation settings
            cannot be read; what is wrong is recorded.
    """

    name: str | None = None
    dtype: str = "auto"
    device_map: str | Mapping[str, str] | None = None
    attention: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    allow_damaged: bool = False


def check_spec(spec: ModelSpec) -> None:
    """Refuse words that mean nothing.

    Raises:
        UsageError: for an unknown dtype, attention implementation or device map.
    """
    _check_word("dtype", spec.dtype, DTYPES)
    if spec.attention is not None:
        _check_word("attn", spec.attention, ATTENTIONS)
    places = spec.device_map.values() if isinstance(spec.device_map, Mapping) else [spec.device_map]
    for place in places:
        if place is not None and not re.fullmatch(r"cuda(:\d+)?", place):
            _check_word("device-map", place, _DEVICE_MAPS)


def _check_word(option: str, word: str, known: Sequence[str]) -> None:
    if word not in known:
        raise UsageError(f"--{option} {word}: choose from {', '.join(known)}.{suggestion(word, known)}")
