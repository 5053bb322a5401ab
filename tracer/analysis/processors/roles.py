"""What each processor of a run is for: which of them are warpers, also where all are one list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Literal

from tracer.schema.run import ProcessorInfo, RunHeader

Role = Literal["processor", "warper", "closing"]
"""``warper``: there only if tokens are drawn. ``closing``: what ``generate()`` puts behind the warpers of a
merged list, sampling or not. ``processor``: any other, the caller's own among them."""

ROLES: tuple[Role, ...] = ("processor", "warper", "closing")
"""The roles in the order in which a run has them."""

_NORMALISATION = "LogitNormalization"

ORDERS: dict[Role, tuple[str, ...]] = {
    "processor": (
        "UnbatchedClassifierFreeGuidanceLogitsProcessor",
        "SequenceBiasLogitsProcessor",
        "HammingDiversityLogitsProcessor",
        "EncoderRepetitionPenaltyLogitsProcessor",
        "RepetitionPenaltyLogitsProcessor",
    ),
    "warper": (
        "TemperatureLogitsWarper",
        "TopHLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
        "MinPLogitsWarper",
        "TypicalLogitsWarper",
        "EpsilonLogitsWarper",
        "EtaLogitsWarper",
        _NORMALISATION,
    ),
    "closing": ("WatermarkLogitsProcessor", "SynthIDTextWatermarkLogitsProcessor", _NORMALISATION),
}
"""Order of classes in ``_get_logits_processor`` and ``_get_logits_warper`` of ``generation/utils.py``, as far
as a setting that can be changed afterwards stands among them."""


def roles(header: RunHeader) -> tuple[Role, ...]:
    """The role of each processor of a run, in order.

    Where processors and warpers are two lists, the list says it. In a merged list the warpers are at the end,
    each class once, in the library's order; what came from the caller stands before them.

    Args:
        header: the run's header.
    """
    infos = header.processors
    if not header.one_list:
        return tuple("warper" if info.list_name == "logits_warper" else "processor" for info in infos)
    closing = _last(infos, "closing")
    warpers = _last(infos[: len(infos) - closing], "warper") if header.do_sample else 0
    counts = (len(infos) - warpers - closing, warpers, closing)
    return tuple(role for role, count in zip(ROLES, counts, strict=True) for _ in range(count))


def _last(infos: Sequence[ProcessorInfo], role: Role) -> int:
    """How many of the last processors are classes of a role, in its order and each once."""
    order = ORDERS[role]

    def falling() -> Iterator[bool]:
        behind = len(order)
        for info in reversed(infos):
            rank = order.index(info.class_name) if info.class_name in order else behind
            yield info.of_transformers and rank < behind
            behind = rank

    return sum(takewhile(bool, falling()))
