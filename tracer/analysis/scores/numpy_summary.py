"""The score summary in NumPy: for scores of double precision, and for installations without a C compiler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.schema.arrays import F64, I32, Bools, Indices
from tracer.schema.columns import NO_TOKEN, REMOVED_CAP

Scores = npt.NDArray[np.floating[Any]]

_GROUP = 64


def numpy_columns(scores: Scores, chosen: I32, cap: int) -> dict[str, npt.NDArray[Any]]:
    """The columns of :func:`tracer.analysis.scores.summary.summarise` by name, computed in NumPy."""
    rows = [_summarise_row(scores[:, row], int(chosen[row]), cap) for row in range(chosen.size)]
    width = max(row.tokens.size for row in rows)
    return {
        "tokens": np.array([_padded(row.tokens, width, NO_TOKEN) for row in rows], dtype=np.int32),
        "scores": np.stack([_padded(row.scores, width, -np.inf) for row in rows], axis=1).astype(np.float32),
        "probabilities": np.array([_padded(row.probabilities, width, 0.0) for row in rows], dtype=np.float32),
        "kept": _column(rows, "kept", np.int32).T,
        "changed": _column(rows, "changed", np.int32).T,
        "removed": _column(rows, "removed", np.int32).T,
        "mass_removed": _column(rows, "mass_removed", np.float32).T,
        "entropy": _column(rows, "entropy", np.float32).T,
        "removed_tokens": np.stack([row.removed_tokens for row in rows], axis=1),
        "candidates": _column(rows, "candidates", np.int32),
        "chosen_rank": _column(rows, "chosen_rank", np.int32).T,
        "chosen_scores": _column(rows, "chosen_scores", np.float32).T,
        "chosen_probability": _column(rows, "chosen_probability", np.float32),
    }


def _column(rows: Sequence[_Row], name: str, dtype: type[np.generic]) -> npt.NDArray[Any]:
    return np.array([getattr(row, name) for row in rows], dtype=dtype)


def top_indices(scores: Scores, count: int) -> Indices:
    """Indices of the highest scores, highest first, equal scores by index.

    NaN scores and removed ones (``-inf``) are skipped.

    Args:
        scores: ``[V]``.
        count: how many at most.
    """
    groups = scores.size // _GROUP
    floor = -np.inf
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
    scores: Scores
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
    """One stage of a row, and the softmax over the tokens that it kept.

    Attributes:
        scores: ``[V]``.
        alive: ``[V]`` which tokens it kept (score above ``-inf``); NaN is neither kept nor removed.
        top: the highest score.
        weights: ``[V]`` ``exp(score - top)``, 0 where not alive.
        total: sum of the weights.
        moment: sum of ``weight · (score - top)``.
    """

    scores: Scores
    alive: Bools
    top: float
    weights: Scores
    total: float
    moment: float

    @property
    def entropy(self) -> float:
        """In bits."""
        if not self.total:
            return 0.0
        return max(0.0, float(np.log2(self.total) - self.moment / self.total / np.log(2)))

    @cached_property
    def kept(self) -> int:
        """How many tokens are alive."""
        return int(np.count_nonzero(self.alive))

    def probability(self, scores: Scores) -> F64:
        """Softmax of given scores in this distribution (0 for ``-inf``)."""
        if not self.total:
            return np.zeros(scores.shape)
        return np.exp(scores.astype(np.float64) - self.top) / self.total

    def rank(self, token: int) -> int:
        """Rank of a token among all, from 1; equal scores share the better one. 0 for no token."""
        return 0 if token == NO_TOKEN else 1 + int(np.count_nonzero(self.scores > self.scores[token]))

    def score(self, token: int) -> float:
        """Score of a token; NaN for no token."""
        return float("nan") if token == NO_TOKEN else float(self.scores[token])

    def probability_of(self, token: int) -> float:
        """Probability of a token; NaN for no token."""
        return float("nan") if token == NO_TOKEN else float(self.probability(self.scores[[token]])[0])


@dataclass(frozen=True)
class _Change:
    """How a stage differs from the one before.

    Attributes:
        changed: number of scores that differ.
        gone: indices of the tokens that the stage removed.
        mass: their probability before.
    """

    changed: int
    gone: Indices
    mass: float


_NO_CHANGE = _Change(0, np.empty(0, dtype=np.intp), 0.0)


def _stage(scores: Scores) -> _Stage:
    alive = scores > -np.inf
    top = float(np.max(scores, where=alive, initial=-np.inf))
    # A score of +inf takes all the probability; inf - inf is NaN, as in torch.
    below = np.where(alive, scores - (top if top > -np.inf else 0.0), 0).astype(scores.dtype)
    weights = np.where(alive, np.exp(below), 0).astype(scores.dtype)
    # Not np.vdot: its BLAS wakes a second thread that goes on spinning on a core the model needs.
    moment = float(np.einsum("i,i->", weights, below))
    return _Stage(scores, alive, top, weights, float(weights.sum(dtype=np.float64)), moment)


def _next_stage(before: _Stage, scores: Scores) -> tuple[_Stage, _Change]:
    same = (before.scores == scores) | (np.isnan(before.scores) & np.isnan(scores))
    changed = scores.size - int(np.count_nonzero(same))
    if not changed:
        return replace(before, scores=scores), _NO_CHANGE
    gone = np.flatnonzero(before.alive & (scores == -np.inf))
    mass = 0.0
    if gone.size and before.total:
        mass = float(before.weights[gone].sum(dtype=np.float64)) / before.total
    return _stage(scores), _Change(changed, gone, mass)


def _summarise_row(scores: Scores, chosen: int, cap: int) -> _Row:
    with np.errstate(invalid="ignore"):
        stages, changes = _compare_stages(scores)
        raw, final = stages[0], stages[-1]
        tokens = _recorded_tokens(raw, final, chosen, cap)
        return _Row(
            tokens=tokens,
            scores=scores[:, tokens],
            probabilities=final.probability(final.scores[tokens]),
            kept=[stage.kept for stage in stages],
            changed=[change.changed for change in changes],
            removed=[change.gone.size for change in changes],
            mass_removed=[change.mass for change in changes],
            entropy=[stage.entropy for stage in stages],
            removed_tokens=np.array([_listed(change) for change in changes]),
            candidates=int(np.count_nonzero(final.weights > 0)),
            chosen_rank=[stage.rank(chosen) for stage in stages],
            chosen_scores=[stage.score(chosen) for stage in stages],
            chosen_probability=final.probability_of(chosen),
        )


def _compare_stages(scores: Scores) -> tuple[list[_Stage], list[_Change]]:
    """Every stage of a row ``[S, V]``, and how it differs from the stage before."""
    stages, changes = [_stage(scores[0])], [_NO_CHANGE]
    for after in scores[1:]:
        stage, change = _next_stage(stages[-1], after)
        stages.append(stage)
        changes.append(change)
    return stages, changes


def _listed(change: _Change) -> I32:
    """``[REMOVED_CAP]`` the removed tokens if at most that many, else none."""
    listed = np.full(REMOVED_CAP, NO_TOKEN, dtype=np.int32)
    if change.gone.size <= REMOVED_CAP:
        listed[: change.gone.size] = change.gone
    return listed


def _recorded_tokens(raw: _Stage, final: _Stage, chosen: int, cap: int) -> Indices:
    """Top of the raw logits, top of the final scores and the choice, by final score, then by raw logit."""
    best = [top_indices(stage.scores, cap) for stage in (raw, final)]
    if chosen != NO_TOKEN:
        best.append(np.array([chosen]))
    tokens = np.unique(np.concatenate(best))
    return tokens[np.lexsort((tokens, -raw.scores[tokens], -final.scores[tokens]))]


def _padded(values: npt.NDArray[np.generic], width: int, fill: float) -> npt.NDArray[np.generic]:
    missing = width - values.shape[-1]
    if not missing:
        return values
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)], constant_values=fill)
