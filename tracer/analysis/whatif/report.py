"""The result of a what-if replay."""

from __future__ import annotations

from dataclasses import dataclass

from tracer.analysis.processors.settings import Settings
from tracer.schema.run import ProcessorInfo


@dataclass(frozen=True)
class WhatIfStep:
    """One row of one step under what-if settings, given the recorded text before it.

    Attributes:
        step: number of the step.
        row: row of the batch.
        recorded: the recorded token.
        token: the token that would be chosen; None where it is not known (see ``reason``), and after the
            row's first difference, where the text would be different.
        same: whether it is the recorded one; None where ``token`` is None.
        kept: candidates left, given the recorded text; an estimate unless ``exact``.
        complete: whether no unrecorded token can be left; if not, ``kept`` counts recorded tokens only.
        recorded_kept: candidates that were left in the recorded run.
        entropy: of their distribution in bits; an estimate unless ``exact``.
        recorded_entropy: in the recorded run, in bits.
        probability: probability of the recorded token under the what-if settings.
        exact: whether candidates and probabilities are those of transformers: neither an unrecorded token
            nor rounding influences which tokens are left.
        certain: whether ``token`` is proven. A greedy choice may be certain where the candidates are not.
        diverged: the row's text would already be different, so the figures hold for the recorded text only.
        reproduced: whether the draw, repeated with the recorded settings, gave the recorded token; None
            where nothing was repeated. False means that no drawn token of this step can be trusted.
        reason: why the token is not known; empty where it is.
    """

    step: int
    row: int
    recorded: int
    token: int | None
    same: bool | None
    kept: int
    recorded_kept: int
    entropy: float
    recorded_entropy: float
    probability: float
    exact: bool
    certain: bool
    diverged: bool
    complete: bool = True
    reproduced: bool | None = None
    reason: str = ""


@dataclass(frozen=True)
class FirstDifference:
    """Where a row's text would first differ.

    Attributes:
        row: row of the batch.
        step: number of the step; None if no difference was found.
        recorded: the recorded token there.
        token: the other token.
        certain: whether that is proven; without a difference: whether every step's token is proven to be
            the same. An estimated token is only likely.
        unknown_from: first step whose token is not known, None if there is none before the difference. The
            text may already differ from there on.
    """

    row: int
    step: int | None
    recorded: int | None
    token: int | None
    certain: bool
    unknown_from: int | None = None


@dataclass(frozen=True)
class WhatIfReport:
    """A run under what-if settings.

    Attributes:
        settings: the changed settings.
        processors: the processors that ``generate()`` would have used.
        sampling: whether tokens would be drawn.
        steps: one entry per step and row that had not ended.
        first: per row, where its text would first differ.
        notes: what a reader must know, in full sentences.
    """

    settings: Settings
    processors: tuple[ProcessorInfo, ...]
    sampling: bool
    steps: tuple[WhatIfStep, ...]
    first: tuple[FirstDifference, ...]
    notes: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether every step's figures are exact; if not, the report is an estimate and must say so."""
        return all(step.exact for step in self.steps)

    @property
    def first_step(self) -> int | None:
        """The first step in which any row would differ."""
        return min((first.step for first in self.first if first.step is not None), default=None)

    @property
    def mean_kept(self) -> float:
        """Mean number of candidates; NaN without steps."""
        return _mean([step.kept for step in self.steps])

    @property
    def mean_entropy(self) -> float:
        """Mean entropy in bits; NaN without steps."""
        return _mean([step.entropy for step in self.steps])


def _mean(values: list[int] | list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
