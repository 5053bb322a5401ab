"""From whole score rows to the few numbers that explain a choice.

The input is every stage of the scores over the whole vocabulary, the output is what a step keeps of it
(:class:`~tracer.schema.step.ScoreColumns`). NumPy on purpose: it runs beside a generation, on the thread
that writes the trace, where comparisons and counts cost a tenth of what they cost as tensor operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.schema.step import F32, I32, NO_TOKEN, ScoreColumns

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

REMOVED_CAP = 32
"""A stage that removes more tokens than this is described by its count and the recorded tokens."""

_GROUP = 64

_FEW = 16
"""A stage that changes less than one score in so many is told by what it changed."""

_NEAR = 8.0
"""How far the highest score may be below the one that weights refer to: ``exp`` stays exact enough."""

_EXACT_MASS = 1e-6
"""A removed mass below this is summed up by itself: as the difference of two sums it would lose digits."""


def summarise(stages: Sequence[F32], chosen: I32, finished: Bools, cap: int) -> ScoreColumns:
    """Describe the way of the scores through all stages.

    Args:
        stages: per stage the scores ``[B, V]``: raw logits first, then after each processor and warper.
        chosen: ``[B]`` the appended token of each row; :data:`NO_TOKEN` while none is.
        finished: ``[B]`` rows that had ended before.
        cap: largest length of each list of recorded tokens.

    Returns:
        The columns of the step, B rows.
    """
    rows = [
        _summarise_row([stage[row] for stage in stages], int(chosen[row]), cap) for row in range(chosen.size)
    ]
    width = max(row.tokens.size for row in rows)

    def by_stage(name: str, dtype: type[np.generic]) -> npt.NDArray[Any]:
        return np.array([getattr(row, name) for row in rows], dtype=dtype).T

    return ScoreColumns(
        tokens=np.array([_padded(row.tokens, width, NO_TOKEN) for row in rows], dtype=np.int32),
        scores=np.stack([_padded(row.scores, width, -np.inf) for row in rows], axis=1).astype(np.float32),
        probabilities=np.array([_padded(row.probabilities, width, 0.0) for row in rows], dtype=np.float32),
        kept=by_stage("kept", np.int32),
        changed=by_stage("changed", np.int32),
        removed=by_stage("removed", np.int32),
        mass_removed=by_stage("mass_removed", np.float32),
        entropy=by_stage("entropy", np.float32),
        removed_tokens=np.stack([row.removed_tokens for row in rows], axis=1),
        candidates=np.array([row.candidates for row in rows], dtype=np.int32),
        chosen=chosen.astype(np.int32),
        chosen_rank=by_stage("chosen_rank", np.int32),
        chosen_scores=by_stage("chosen_scores", np.float32),
        chosen_probability=np.array([row.chosen_probability for row in rows], dtype=np.float32),
        finished=finished.astype(np.bool_),
    )


def top_indices(scores: F32, count: int) -> Indices:
    """Indices of the highest scores, highest first, equal scores by index.

    NaN scores and removed ones (``-inf``) are left out.

    Args:
        scores: ``[V]``.
        count: how many at most.
    """
    groups = scores.size // _GROUP
    floor = np.float32(-np.inf)
    if groups > count:
        # The count-th highest of the groups' maxima is at most the count-th highest score, so only few pass
        # it. Groups are columns, which are reduced many at once; one with a NaN is left out.
        peaks = np.maximum.reduce(scores[: groups * _GROUP].reshape(_GROUP, groups), axis=0)
        peaks = peaks[peaks == peaks]
        if peaks.size > count:
            floor = np.partition(peaks, peaks.size - count)[peaks.size - count]
    above = np.flatnonzero(scores >= floor if floor > -np.inf else scores > floor)
    order = np.argsort(-scores[above], kind="stable")
    return above[order[:count]]


@dataclass(frozen=True)
class _Row:
    """The columns of one row: S stages, T tokens."""

    tokens: Indices
    scores: F32
    probabilities: F64
    kept: list[int]
    changed: list[int]
    removed: list[int]
    mass_removed: list[float]
    entropy: list[float]
    removed_tokens: I32
    candidates: int
    chosen_rank: list[int]
    chosen_scores: list[float]
    chosen_probability: float


@dataclass(frozen=True)
class _Stage:
    """One stage of a row, and softmax over the tokens that it kept.

    Attributes:
        scores: ``[V]``.
        alive: indices of the kept tokens (score above ``-inf``), None for all of the vocabulary.
        nan: some score is NaN, which is neither kept nor removed.
        values: scores of the kept tokens.
        base: the highest score, or one near it.
        weights: ``exp(score - base)`` of the kept tokens.
        total: sum of the weights.
        moment: sum of ``weight · (score - base)``.
    """

    scores: F32
    alive: Indices | None
    nan: bool
    values: F32
    base: np.float32
    weights: F32
    total: float
    moment: float

    @property
    def entropy(self) -> float:
        """In bits."""
        if not self.total:
            return 0.0
        # A score of +inf takes all; inf - inf is NaN, as it is in torch.
        with np.errstate(invalid="ignore"):
            return max(0.0, float(np.log2(self.total) - self.moment / self.total / np.log(2)))

    def probability(self, scores: F32) -> F64:
        """Softmax of given scores in this distribution (0 for ``-inf``)."""
        if not self.total:
            return np.zeros(scores.shape)
        return np.exp(scores.astype(np.float64) - float(self.base)) / self.total

    def rank(self, token: int) -> int:
        """Rank of a token among all, from 1; equal scores share the better one."""
        return 1 + int(np.count_nonzero(self.values > self.scores[token]))


@dataclass(frozen=True)
class _Change:
    """What a stage did.

    Attributes:
        changed: how many scores differ from the stage before.
        removed: how many tokens it removed.
        listed: the removed tokens where they are few, else none.
        mass: their probability before.
    """

    changed: int = 0
    removed: int = 0
    listed: Indices = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    mass: float = 0.0


def _removal(before: _Stage, after: _Stage, changed: int, values: F32) -> _Change:
    """What a stage did that removed tokens.

    Args:
        before: the stage before it.
        after: the stage.
        changed: how many scores it changed.
        values: its scores of the tokens that were alive before it.
    """
    gone = values == -np.inf
    removed = int(np.count_nonzero(gone))
    if not removed:
        return _Change(changed)
    mass = _mass_removed(before, after, gone)
    if removed > REMOVED_CAP:
        return _Change(changed, removed, mass=mass)
    listed = np.flatnonzero(gone)
    return _Change(changed, removed, listed if before.alive is None else before.alive[listed], mass)


def _mass_removed(before: _Stage, after: _Stage, gone: Bools) -> float:
    if not before.total:
        return 0.0
    if before.alive is None and after.alive is not None and after.alive.size < gone.size // _FEW:
        mass = 1 - float(before.weights[after.alive].sum(dtype=np.float64)) / before.total
        if mass > _EXACT_MASS:
            return mass
    weights = np.where(gone, before.weights, np.float32(0))  # faster than picking out most of them
    return float(weights.sum(dtype=np.float64)) / before.total


def _stage(scores: F32, alive: Indices | None, *, nan: bool = False) -> _Stage:
    values = scores if alive is None else scores[alive]
    if not values.size:
        return _Stage(scores, alive, nan, values, np.float32(0), values, 0.0, 0.0)
    base = values.max()
    with np.errstate(invalid="ignore"):
        below = values - base
        weights = np.exp(below)
        total = float(weights.sum(dtype=np.float64))
        # Not np.vdot: its BLAS wakes a second thread that goes on spinning on a core the model needs.
        moment = float(np.einsum("i,i->", weights, below))
    return _Stage(scores, alive, nan, values, base, weights, total, moment)


def _first_stage(scores: F32) -> _Stage:
    lowest = scores.min()
    if lowest > -np.inf:  # all are alive; False for NaN too
        return _stage(scores, None)
    return _stage(scores, np.flatnonzero(scores > -np.inf), nan=bool(np.isnan(lowest)))


def _next_stage(before: _Stage, scores: F32) -> tuple[_Stage, _Change]:
    """A stage and what it did. Each look at the whole vocabulary costs, so there are as few as can be."""
    alive, lowest = before.alive, scores.min()
    nan = bool(np.isnan(lowest))
    if alive is not None and not before.nan and not nan:
        kept = scores > -np.inf
        inside = kept[alive]
        # Nothing that was removed has come back, and every other score is -inf.
        if np.count_nonzero(inside) == np.count_nonzero(kept):
            return _shrunk_stage(before, scores, inside)
    differs = before.scores != scores
    changed = int(np.count_nonzero(differs))
    if before.nan and nan:  # NaN that stays NaN is no change
        changed -= int(np.count_nonzero(np.isnan(before.scores) & np.isnan(scores)))
    if not changed:
        return replace(before, scores=scores), _Change()
    if lowest > -np.inf:
        few = alive is None and changed < scores.size // _FEW
        edited = _edited_stage(before, scores, np.flatnonzero(differs)) if few else None
        return edited or _stage(scores, None), _Change(changed)
    stage = _stage(scores, np.flatnonzero(scores > -np.inf), nan=nan)
    return stage, _removal(before, stage, changed, scores if alive is None else scores[alive])


def _edited_stage(before: _Stage, scores: F32, edited: Indices) -> _Stage | None:
    """A stage that kept all tokens as the one before it did, and changed the scores of a few.

    Returns:
        The stage; None where the highest score has moved too far for the weights to be kept.
    """
    base, top = before.base, scores.max()
    if not base - _NEAR < top <= base:  # False for infinite scores too
        return None
    below = scores[edited] - base
    weights, old = before.weights.copy(), before.weights[edited].astype(np.float64)
    weights[edited] = np.exp(below)
    new = weights[edited].astype(np.float64)
    old_below = (before.scores[edited] - base).astype(np.float64)
    return _Stage(
        scores,
        None,
        nan=False,
        values=scores,
        base=base,
        weights=weights,
        total=before.total + float(new.sum() - old.sum()),
        moment=before.moment + float(new @ below.astype(np.float64) - old @ old_below),
    )


def _shrunk_stage(before: _Stage, scores: F32, inside: Bools) -> tuple[_Stage, _Change]:
    """A stage whose kept tokens are some of those before; ``inside`` says which."""
    assert before.alive is not None
    values = scores[before.alive]
    changed = int(np.count_nonzero(before.values != values))
    if not changed:
        return replace(before, scores=scores), _Change()
    stage = _stage(scores, before.alive[inside])
    return stage, _removal(before, stage, changed, values)


def _summarise_row(scores: list[F32], chosen: int, cap: int) -> _Row:
    stages, changes = [_first_stage(scores[0])], [_Change()]
    for after in scores[1:]:
        stage, change = _next_stage(stages[-1], after)
        stages.append(stage)
        changes.append(change)
    raw, final, made = stages[0], stages[-1], chosen != NO_TOKEN
    tokens = _recorded_tokens(raw, final, chosen, cap)
    removed_tokens = np.full((len(stages), REMOVED_CAP), NO_TOKEN, dtype=np.int32)
    for listed, change in zip(removed_tokens, changes, strict=True):
        listed[: change.listed.size] = change.listed
    return _Row(
        tokens=tokens,
        scores=np.stack([stage.scores[tokens] for stage in stages]),
        probabilities=final.probability(final.scores[tokens]),
        kept=[stage.values.size for stage in stages],
        changed=[change.changed for change in changes],
        removed=[change.removed for change in changes],
        mass_removed=[change.mass for change in changes],
        entropy=[stage.entropy for stage in stages],
        removed_tokens=removed_tokens,
        candidates=int(np.count_nonzero(final.weights > 0)),
        chosen_rank=[stage.rank(chosen) if made else 0 for stage in stages],
        chosen_scores=[float(stage.scores[chosen]) if made else np.nan for stage in stages],
        chosen_probability=float(final.probability(final.scores[[chosen]])[0]) if made else np.nan,
    )


def _recorded_tokens(raw: _Stage, final: _Stage, chosen: int, cap: int) -> Indices:
    """Top of the raw logits, top of the final scores and the choice, by final score, then by raw logit."""
    best = [_top_of(stage, cap) for stage in (raw, final)]
    if chosen != NO_TOKEN:
        best.append(np.array([chosen]))
    tokens = np.unique(np.concatenate(best))
    return tokens[np.lexsort((tokens, -raw.scores[tokens], -final.scores[tokens]))]


def _top_of(stage: _Stage, cap: int) -> Indices:
    found = top_indices(stage.values, cap)
    return found if stage.alive is None else stage.alive[found]


def _padded(values: npt.NDArray[np.generic], width: int, fill: float) -> npt.NDArray[np.generic]:
    missing = width - values.shape[-1]
    if not missing:
        return values
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)], constant_values=fill)
