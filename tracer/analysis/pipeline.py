"""From whole score rows to the few numbers that explain a choice.

The input is every stage of the scores over the whole vocabulary, the output is what a step keeps of it
(:class:`~tracer.schema.step.ScoreColumns`). NumPy on purpose: it runs beside a generation, on the thread
that writes the trace, where comparisons and counts cost a tenth of what they cost as tensor operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
        chosen: ``[B]`` the appended token of each row.
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
class _Distribution:
    """Softmax of one stage over the tokens that it kept.

    Attributes:
        alive: indices of the kept tokens, None for all of the vocabulary.
        weights: ``exp(score - top)`` of the kept tokens.
        total: sum of the weights.
        top: highest score.
        entropy: in bits.
    """

    alive: Indices | None
    weights: F32
    total: float
    top: float
    entropy: float

    def mass(self, gone: Bools) -> float:
        """Probability of the tokens in a mask over the vocabulary."""
        mask = gone if self.alive is None else gone[self.alive]
        return float(self.weights[mask].sum(dtype=np.float64)) / self.total if self.total else 0.0

    def probability(self, scores: F32) -> F64:
        """Softmax of given scores in this distribution (0 for ``-inf``)."""
        if not self.total:
            return np.zeros(scores.shape)
        return np.exp(scores.astype(np.float64) - self.top) / self.total


def _distribution(scores: F32, kept: int, before: _Distribution | None) -> _Distribution:
    alive = None
    if kept < scores.size:
        # What is removed mostly stays removed: look only where the stage before was alive.
        known = before.alive if before is not None and before.alive is not None else None
        if known is not None and np.count_nonzero(scores[known] > -np.inf) == kept:
            alive = known[scores[known] > -np.inf]
        else:
            alive = np.flatnonzero(scores > -np.inf)
    values = scores if alive is None else scores[alive]
    if not values.size:
        return _Distribution(alive, values, 0.0, 0.0, 0.0)
    top = values.max()
    # A score of +inf takes all; -inf + inf would be NaN, as it is in torch.
    with np.errstate(invalid="ignore"):
        below = values - top
        weights = np.exp(below)
        total = float(weights.sum(dtype=np.float64))
        entropy = np.log2(total) - float(np.vdot(weights, below)) / total / np.log(2)
    return _Distribution(alive, weights, total, float(top), max(0.0, float(entropy)))


def _summarise_row(stages: list[F32], chosen: int, cap: int) -> _Row:
    counts: list[tuple[int, int, int, float, float]] = []
    removed_tokens = np.full((len(stages), REMOVED_CAP), NO_TOKEN, dtype=np.int32)
    before: F32 | None = None
    distribution: _Distribution | None = None
    for index, scores in enumerate(stages):
        changed = 0 if before is None else _changed(before, scores)
        removed, mass = 0, 0.0
        if before is None or distribution is None or changed:
            previous = distribution
            distribution = _distribution(scores, int(np.count_nonzero(scores > -np.inf)), previous)
            if before is not None and previous is not None:
                gone = (scores == -np.inf) & (before > -np.inf)
                removed = int(np.count_nonzero(gone))
                mass = previous.mass(gone) if removed else 0.0
                if 0 < removed <= REMOVED_CAP:
                    removed_tokens[index, :removed] = np.flatnonzero(gone)
        counts.append((distribution.weights.size, changed, removed, mass, distribution.entropy))
        before = scores
    assert distribution is not None  # there is always the stage of the raw logits
    tokens = _recorded_tokens(stages[0], stages[-1], chosen, cap)
    kept, changed_counts, removed_counts, masses, entropies = (
        list(column) for column in zip(*counts, strict=True)
    )
    chosen_scores = [scores[chosen] for scores in stages]
    return _Row(
        tokens=tokens,
        scores=np.stack([scores[tokens] for scores in stages]),
        probabilities=distribution.probability(stages[-1][tokens]),
        kept=kept,
        changed=changed_counts,
        removed=removed_counts,
        mass_removed=masses,
        entropy=entropies,
        removed_tokens=removed_tokens,
        candidates=int(np.count_nonzero(distribution.weights > 0)),
        chosen_rank=[
            1 + int(np.count_nonzero(scores > score))
            for scores, score in zip(stages, chosen_scores, strict=True)
        ],
        chosen_scores=[float(score) for score in chosen_scores],
        chosen_probability=float(distribution.probability(stages[-1][[chosen]])[0]),
    )


def _changed(before: F32, after: F32) -> int:
    """How many scores differ; NaN that stays NaN is no change."""
    different = before != after
    count = int(np.count_nonzero(different))
    if count:
        count -= int(np.count_nonzero((before != before) & (after != after)))
    return count


def _recorded_tokens(raw: F32, final: F32, chosen: int, cap: int) -> Indices:
    """Top of the raw logits, top of the final scores and the choice, by final score, then by raw logit."""
    tokens = np.unique(np.concatenate([top_indices(raw, cap), top_indices(final, cap), np.array([chosen])]))
    return tokens[np.lexsort((tokens, -raw[tokens], -final[tokens]))]


def _padded(values: npt.NDArray[np.generic], width: int, fill: float) -> npt.NDArray[np.generic]:
    missing = width - values.shape[-1]
    if not missing:
        return values
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)], constant_values=fill)
