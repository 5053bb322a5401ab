"""The result of comparing two runs: where they diverge, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tracer.schema.run import StopName

Reason = Literal[
    "identical",
    "rounding",
    "prompt",
    "loop",
    "intervention",
    "settings",
    "draw",
    "cache",
    "padding",
    "numerics",
    "weights",
    "length",
    "unknown",
]
"""Why two runs differ.

``identical``: every recorded number is the same to the last bit. ``rounding``: the same tokens, and numbers
no farther apart than their dtypes explain. ``prompt``: they do not start from the same tokens.
``loop``: they run other decoding loops, whose scores are not the same quantity.
``intervention``: the user changed a step. ``settings``: other processors, or greedy against sampling.
``draw``: other random numbers. ``cache``, ``padding``, ``numerics``: the same computation in another order or
precision (cache on or off; other padding; other dtype, attention, device, batch or library). ``weights``:
another model. ``length``: one stopped earlier. ``unknown``: the recordings do not say.
"""

HeaderAspect = Literal[
    "prompt",
    "loop",
    "settings",
    "processors",
    "seed",
    "cache",
    "padding",
    "batch",
    "dtype",
    "device",
    "attention",
    "versions",
    "model",
]


@dataclass(frozen=True)
class HeaderDifference:
    """A difference between the headers of two runs, known before their first step.

    Attributes:
        kind: which aspect differs.
        name: which one of that kind.
        a: its value in run A; ``-`` where it is absent.
        b: its value in run B.
    """

    kind: HeaderAspect
    name: str
    a: str
    b: str


@dataclass(frozen=True)
class RowPair:
    """One row of each run, to be compared.

    Attributes:
        a: row of run A.
        b: row of run B.
        padding_a: padding at the left of the row in run A.
        padding_b: padding in run B; the same token is ``padding_b - padding_a`` positions farther right.
        same_prompt: whether both start from the same tokens, ignoring padding.
    """

    a: int
    b: int
    padding_a: int
    padding_b: int
    same_prompt: bool


@dataclass(frozen=True)
class NumberDifference:
    """One number that differs.

    Attributes:
        step: number of the step.
        stop: at which stop.
        module: name of the module; None where the number belongs to none.
        quantity: what differs: ``mean``, ``std``, ``low``, ``high``, ``non-finite values``, ``key norm``,
            ``value norm``, ``raw logit``, ``score after CLASS``, ``tokens left after CLASS`` or
            ``tensor NAME``.
        rows: the pair concerned; None where the number is one of the whole batch.
        a: the number in run A.
        b: the number in run B.
        size: their absolute distance.
        relative: the distance relative to ``scale``.
        scale: magnitude of the values that went into it.
        allowed: the largest relative distance that the dtypes explain.
    """

    step: int
    stop: StopName
    module: str | None
    quantity: str
    rows: RowPair | None
    a: float
    b: float
    size: float
    relative: float
    scale: float
    allowed: float

    @property
    def beyond(self) -> bool:
        """Whether the dtypes do not explain it; a NaN on one side is never explained."""
        return not self.relative <= self.allowed


@dataclass(frozen=True)
class TokenDifference:
    """The first step in which two rows got different tokens.

    Attributes:
        step: number of the step.
        rows: which rows.
        token_a: token of run A.
        token_b: token of run B.
        probability_a: of run A's token in run A.
        probability_b: of run B's token in run B.
        gap_a: final score of A's token minus that of B's token in run A: how close A was to choosing B's
            token; ``+inf`` if it had been removed there, None if it was not recorded.
        gap_b: final score of B's token minus that of A's token in run B.
        same_draw: whether both drew the same random numbers for the row; None if nothing was drawn or
            that is not known.
    """

    step: int
    rows: RowPair
    token_a: int
    token_b: int
    probability_a: float
    probability_b: float
    gap_a: float | None
    gap_b: float | None
    same_draw: bool | None


@dataclass(frozen=True)
class LogitDistance:
    """Distance of the raw logits of two rows in a step, while their texts are the same.

    Attributes:
        step: number of the step.
        rows: which rows.
        divergence: Kullback-Leibler divergence ``sum p_A · log(p_A / p_B)`` of the softmax of the raw logits,
            in nats.
        largest: largest difference of two logits.
    """

    step: int
    rows: RowPair
    divergence: float
    largest: float


@dataclass(frozen=True)
class DiffReport:
    """Two runs compared.

    Attributes:
        same: the same tokens, and no distance larger than explained; the exit code of ``diff`` follows it.
        reason: why they differ, or in which sense they are the same.
        explanation: the reason in a sentence or two.
        facts: differences between the headers.
        rows: the compared rows.
        tokens: first differing token of each pair that has one.
        first: the first number that differs at all.
        first_beyond: the first number whose distance the dtypes do not explain.
        logits: distance of the raw logits per step and pair, where both runs saved them.
        steps: steps compared before every pair had diverged.
        steps_a: steps of run A.
        steps_b: steps of run B.
        tolerance: the user's tolerance, None for the built-in model.
        notes: what a reader must know, in full sentences.
    """

    same: bool
    reason: Reason
    explanation: str
    facts: tuple[HeaderDifference, ...]
    rows: tuple[RowPair, ...]
    tokens: tuple[TokenDifference, ...]
    first: NumberDifference | None
    first_beyond: NumberDifference | None
    logits: tuple[LogitDistance, ...]
    steps: int
    steps_a: int
    steps_b: int
    tolerance: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def first_token(self) -> TokenDifference | None:
        """The first differing token of all pairs."""
        return min(self.tokens, key=lambda difference: difference.step, default=None)
