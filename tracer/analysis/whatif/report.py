"""The answer to "what if the settings had been others?"."""

from __future__ import annotations

from dataclasses import dataclass

from tracer.analysis.processors.settings import Settings
from tracer.schema.run import ProcessorInfo


@dataclass(frozen=True)
class WhatIfStep:
    """One row of one step under other settings, given the recorded text before it.

    Attributes:
        step: number of the step.
        row: row of the batch.
        recorded: the recorded token.
        token: the token that would be chosen; None where it is not known (see ``reason``), and after the
            row's first difference, where the text would be another.
        same: whether it is the recorded one; None where ``token`` is.
        kept: candidates left, given the recorded text; an estimate unless ``exact``.
        complete: whether no token that was not recorded can be left; if not, ``kept`` counts the others only.
        recorded_kept: candidates that were left in the recorded run.
        entropy: of their distribution in bits; an estimate unless ``exact``.
        recorded_entropy: in the recorded run, in bits.
        probability: of the recorded token under the other settings.
        exact: whether candidates and probabilities are what transformers would give: no unrecorded token
            and no rounding has a say in which tokens are left.
        certain: whether ``token`` is proven. A greedy choice may be certain where the candidates are not.
        diverged: the row's text would already be another, so that figures hold for the recorded text only.
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
    """Where a row's text would first be another.

    Attributes:
        row: row of the batch.
        step: number of the step; None if no difference was found.
        recorded: the recorded token there.
        token: the other token.
        certain: whether that is proven; without a difference: whether every step's token is proven to be
            the same. An estimated token says what is likely, no more.
        unknown_from: first step whose token is not known, None if there is none before the difference. A
            text may already be another from there on.
    """

    row: int
    step: int | None
    recorded: int | None
    token: int | None
    certain: bool
    unknown_from: int | None = None


@dataclass(frozen=True)
class WhatIfReport:
    """A run under other settings.

    Attributes:
        settings: what was changed.
        processors: the processors that ``generate()`` would have used.
        sampling: whether tokens would be drawn.
        steps: one entry a step and row that had not ended.
        first: per row, where its text would first be another.
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
        """Candidates left, on average; NaN without steps."""
        return _mean([step.kept for step in self.steps])

    @property
    def mean_entropy(self) -> float:
        """Entropy in bits, on average; NaN without steps."""
        return _mean([step.entropy for step in self.steps])


def _mean(values: list[int] | list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
