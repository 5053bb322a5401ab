"""From whole score rows to the few numbers that explain a choice.

The input is every stage of the scores over the whole vocabulary, the output is what a step keeps of it
(:class:`~tracer.schema.step.ScoreColumns`). NumPy on purpose: it runs beside a generation, on the thread
that writes the trace, where comparisons and counts cost a tenth of what they cost as tensor operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from tracer.schema.step import F32, I32, NO_TOKEN, ScoreColumns

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

REMOVED_CAP = 32
"""A stage that removes more tokens than this is described by its count and the recorded tokens."""

_BLOCK = 64


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

    def stack(name: str) -> npt.NDArray[np.generic]:
        return np.stack([getattr(row, name) for row in rows], axis=-1)

    return ScoreColumns(
        tokens=np.stack([_padded(row.tokens, width, NO_TOKEN) for row in rows]).astype(np.int32),
        scores=np.stack([_padded(row.scores, width, -np.inf) for row in rows], axis=1).astype(np.float32),
        probabilities=np.stack([_padded(row.probabilities, width, 0.0) for row in rows]).astype(np.float32),
        kept=stack("kept").astype(np.int32),
        changed=stack("changed").astype(np.int32),
        removed=stack("removed").astype(np.int32),
        mass_removed=stack("mass_removed").astype(np.float32),
        entropy=stack("entropy").astype(np.float32),
        removed_tokens=np.stack([row.removed_tokens for row in rows], axis=1),
        candidates=np.array([row.candidates for row in rows], dtype=np.int32),
        chosen=chosen.astype(np.int32),
        chosen_rank=stack("chosen_rank").astype(np.int32),
        chosen_scores=stack("chosen_scores").astype(np.float32),
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
    blocks = scores.size // _BLOCK
    floor = np.float32(-np.inf)
    if blocks > count:
        # The count-th highest block maximum is at most the count-th highest score, so only few pass it.
        # fmax, because a NaN must not hide its block.
        peaks = np.fmax.reduce(scores[: blocks * _BLOCK].reshape(blocks, _BLOCK), axis=1)
        peaks = peaks[peaks == peaks]
        if peaks.size > count:
            floor = np.partition(peaks, peaks.size - count)[peaks.size - count]
    above = np.flatnonzero((scores >= floor) & (scores > -np.inf))
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
        weights: ``exp(score - top)`` of the kept tokens.
        total: sum of the weights.
        top: highest score.
        entropy: in bits.
    """

    scores: F32
    alive: Indices | None
    nan: bool
    values: F32
    weights: F32
    total: float
    top: float
    entropy: float

    def probability(self, scores: F32) -> F64:
        """Softmax of given scores in this distribution (0 for ``-inf``)."""
        if not self.total:
            return np.zeros(scores.shape)
        return np.exp(scores.astype(np.float64) - self.top) / self.total

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


def _removal(before: _Stage, changed: int, gone: Bools) -> _Change:
    """The change of a stage; ``gone`` says which of the tokens alive before it removed."""
    removed = int(np.count_nonzero(gone))
    if not removed:
        return _Change(changed)
    weights = np.where(gone, before.weights, np.float32(0))  # faster than picking out most of them
    mass = float(weights.sum(dtype=np.float64)) / before.total if before.total else 0.0
    if removed > REMOVED_CAP:
        return _Change(changed, removed, mass=mass)
    listed = np.flatnonzero(gone)
    return _Change(changed, removed, listed if before.alive is None else before.alive[listed], mass)


def _stage(scores: F32, alive: Indices | None) -> _Stage:
    values = scores if alive is None else scores[alive]
    nan = alive is not None and bool((scores != scores).any())
    if not values.size:
        return _Stage(scores, alive, nan, values, values, 0.0, 0.0, 0.0)
    top = values.max()
    # A score of +inf takes all; -inf + inf would be NaN, as it is in torch.
    with np.errstate(invalid="ignore"):
        below = values - top
        weights = np.exp(below)
        total = float(weights.sum(dtype=np.float64))
        # Not np.vdot: its BLAS wakes a second thread that goes on spinning on a core the model needs.
        expected = float(np.einsum("i,i->", weights, below)) / total
        entropy = np.log2(total) - expected / np.log(2)
    return _Stage(scores, alive, nan, values, weights, total, float(top), max(0.0, float(entropy)))


def _first_stage(scores: F32) -> _Stage:
    kept = scores > -np.inf
    return _stage(scores, None if kept.all() else np.flatnonzero(kept))


def _next_stage(before: _Stage, scores: F32) -> tuple[_Stage, _Change]:
    """A stage and what it did. Each look at the whole vocabulary costs, so there are as few as can be."""
    alive = before.alive
    if alive is not None and not before.nan:
        kept = scores > -np.inf
        inside = kept[alive]
        # Nothing that was removed has come back, and every other score is -inf.
        if np.count_nonzero(inside) == np.count_nonzero(kept) and not np.isnan(scores.min()):
            return _shrunk_stage(before, scores, inside)
    changed = _changed(before.scores, scores)
    if not changed:
        return replace(before, scores=scores), _Change()
    if scores.min() > -np.inf:  # all are alive; False for NaN too
        return _stage(scores, None), _Change(changed)
    stage = _stage(scores, np.flatnonzero(scores > -np.inf))
    values = scores if alive is None else scores[alive]
    gone = values == -np.inf
    return stage, _removal(before, changed, gone)


def _shrunk_stage(before: _Stage, scores: F32, inside: Bools) -> tuple[_Stage, _Change]:
    """A stage whose kept tokens are some of those before; ``inside`` says which."""
    assert before.alive is not None
    values = scores[before.alive]
    changed = _changed(before.values, values)
    if not changed:
        return replace(before, scores=scores), _Change()
    return _stage(scores, before.alive[inside]), _removal(before, changed, values == -np.inf)


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


def _changed(before: F32, after: F32) -> int:
    """How many scores differ; NaN that stays NaN is no change."""
    count = int(np.count_nonzero(before != after))
    if count:
        count -= int(np.count_nonzero((before != before) & (after != after)))
    return count


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
