"""Warpers that remove tokens by rank or probability.

Sources are classes of ``transformers/generation/logits_process.py``, named by ``class_name``; each
docstring gives the condition under which a token is removed there.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tracer.analysis.processors.processor import NOBODY, Context, Cutoff, Processor, ScoreRow
from tracer.analysis.processors.softmax import (
    TINY,
    UNIT,
    cumulated,
    entropy_nats,
    kth_highest,
    log_softmax,
    rising,
    softmax,
    sum_error,
)
from tracer.schema.arrays import F32, Bools, Indices

_FEW_UNITS = 16 * UNIT
_CERTAIN = 1e-4
"""A distance of scores larger than any rounding of an exponential."""


class Filter(Processor):
    """Removes some tokens; the others keep their scores."""

    filter_value: float

    def apply(self, row: ScoreRow, context: Context) -> ScoreRow:
        """Set the removed tokens to the filter value, usually ``-inf``."""
        removed, doubtful = self.removes(row.scores)
        scores = np.where(removed, np.float32(self.filter_value), row.scores)
        alive = doubtful & (row.scores > -np.inf)
        doubts = np.flatnonzero(alive) if alive.any() else NOBODY
        if row.doubtful.size:
            doubts = np.union1d(row.doubtful, doubts)
        bound = -np.inf if not row.complete and self.removes_all_below(row) else row.bound
        if self.filter_value > -np.inf and not row.complete:
            bound = np.inf
        estimated = row.estimated or (bound > -np.inf and not self.ignores_unknown(row))
        return ScoreRow(scores, bound, doubts, estimated)

    @abstractmethod
    def removes(self, scores: F32) -> tuple[Bools, Bools]:
        """Which tokens are removed, and which of them are doubtful: rounding decides.

        Args:
            scores: ``[V]``.
        """

    def removes_all_below(self, row: ScoreRow) -> bool:
        """Whether every unknown token is certain to be removed."""
        return False

    def ignores_unknown(self, row: ScoreRow) -> bool:
        """Whether unknown tokens do not influence which known ones are removed."""
        return False

    def lowest_kept(self, scores: F32) -> float:
        """Lowest score that is kept."""
        removed, _ = self.removes(scores)
        kept = scores[~removed & (scores > -np.inf)]
        return float(kept.min()) if kept.size else math.inf


@dataclass(frozen=True)
class TopK(Filter):
    """Removed: ``score < k-th highest score``, so that ties with the k-th stay; exact in float32."""

    top_k: int
    filter_value: float = -math.inf
    class_name: ClassVar[str] = "TopKLogitsWarper"

    def removes(self, scores: F32) -> tuple[Bools, Bools]:
        """Everything below the k-th highest."""
        return scores < self.line(scores), np.zeros(scores.shape, dtype=np.bool_)

    def line(self, scores: F32) -> np.float32:
        """The k-th highest score."""
        return kth_highest(scores, min(self.top_k, scores.size))

    def removes_all_below(self, row: ScoreRow) -> bool:
        """The k-th highest known score is above the bound."""
        return bool(self.line(row.scores) > row.bound)

    def cutoff(self, row: ScoreRow, token: int) -> Cutoff:
        """Distance to the k-th highest score."""
        score, line = float(row.scores[token]), float(self.line(row.scores))
        return Cutoff("score", score, line, score - line, score - line)


@dataclass(frozen=True)
class TopH(Filter):
    """Kept: the most probable tokens whose shares of the entropy reach at most ``top_h`` of it together.

    A share is ``-p · log p``, and entropy and probabilities are those of the ``top_n`` highest scores alone.
    All others are removed; the most probable token is always kept.
    """

    top_h: float
    filter_value: float = -math.inf
    top_n: int = 100
    class_name: ClassVar[str] = "TopHLogitsWarper"

    def __post_init__(self) -> None:
        if not (0 < self.top_h <= 1 <= self.top_n):
            raise ValueError("transformers takes no such settings")

    def removes(self, scores: F32) -> tuple[Bools, Bools]:
        """Everything behind the token with which the entropy is passed."""
        order, sums, line = self._sums(scores)
        kept = sums <= line
        near = np.abs(sums - line) <= 8 * sum_error(sums.size) * (1 + np.maximum(sums, line))
        kept[:1], near[:1] = True, False
        removed = np.ones(scores.shape, dtype=np.bool_)
        removed[order] = ~kept
        # Of equal scores any may be among the highest, and any may be kept.
        doubtful = np.isin(scores, scores[order[near]])
        last = scores == scores[order[np.count_nonzero(kept) - 1]]
        return removed, doubtful | (last & removed[last].any())

    def removes_all_below(self, row: ScoreRow) -> bool:
        """The highest scores that are looked at are all known."""
        return bool(
            self.top_n <= row.scores.size and kth_highest(row.scores, self.top_n) > row.bound < math.inf
        )

    def cutoff(self, row: ScoreRow, token: int) -> Cutoff:
        """The entropy of this token and those above it against the part that is kept."""
        order, sums, line = self._sums(row.scores)
        place = np.flatnonzero(order == token)
        value = float(sums[place[0]]) if place.size else float(sums[-1])
        low = self.lowest_kept(row.scores)
        return Cutoff("entropy", value, line, line - value, float(row.scores[token]) - low)

    def _sums(self, scores: F32) -> tuple[Indices, F32, float]:
        """The highest scores in falling order, the entropy up to each, and the part of it that is kept."""
        order = np.argsort(-scores, kind="stable")[: self.top_n]
        shares = softmax(scores[order])
        with np.errstate(all="ignore"):
            sums = cumulated(-shares * np.log(shares))
        return order, sums, float(np.float32(entropy_nats(scores[order]) * self.top_h))


@dataclass(frozen=True)
class TopP(Filter):
    """Removed: ``sum of the probabilities of this and all less probable tokens <= 1 - top_p``.

    In other words: the more probable tokens together reach ``top_p`` already. Where the cutoff falls between
    equal scores, it is certain how many of them are removed, but not which.
    """

    top_p: float
    filter_value: float = -math.inf
    min_tokens_to_keep: int = 1
    class_name: ClassVar[str] = "TopPLogitsWarper"

    def removes(self, scores: F32) -> tuple[Bools, Bools]:
        """The least probable tokens up to ``1 - top_p`` together."""
        where = self._competing(scores)
        order, sums = self._sums(scores[where])
        line = np.float32(1 - self.top_p)
        gone = sums <= line
        near = np.abs(sums - line) <= sum_error(sums.size) * np.maximum(sums, line) + TINY
        gone[-self.min_tokens_to_keep :] = near[-self.min_tokens_to_keep :] = False
        near |= _tied(scores[where[order]], int(np.count_nonzero(gone)))
        removed = np.zeros(scores.shape, dtype=np.bool_)
        doubtful = removed.copy()
        removed[where[order]], doubtful[where[order]] = gone, near
        return removed, doubtful

    def cutoff(self, row: ScoreRow, token: int) -> Cutoff:
        """Probability of the tokens above against ``top_p``."""
        where = self._competing(row.scores)
        order, _ = self._sums(row.scores[where])
        shares = softmax(row.scores[where])[order].astype(np.float64)
        place = int(np.flatnonzero(where[order] == token)[0])
        above = float(shares[place + 1 :].sum())
        low = self.lowest_kept(row.scores)
        return Cutoff(
            "probability above", above, self.top_p, self.top_p - above, float(row.scores[token]) - low
        )

    def _competing(self, scores: F32) -> Indices:
        """Tokens that need sorting: not the removed ones, which add nothing to any sum; all if one is NaN."""
        alive = np.flatnonzero(scores > -np.inf)
        if self.filter_value == -math.inf and alive.size and not np.isnan(scores).any():
            return alive
        return np.arange(scores.size)

    @staticmethod
    def _sums(scores: F32) -> tuple[Indices, F32]:
        order = rising(scores)
        return order, cumulated(softmax(scores)[order])


@dataclass(frozen=True)
class MinP(Filter):
    """Removed: ``probability < min_p · highest probability``."""

    min_p: float
    filter_value: float = -math.inf
    min_tokens_to_keep: int = 1
    class_name: ClassVar[str] = "MinPLogitsWarper"

    def removes(self, scores: F32) -> tuple[Bools, Bools]:
        """Everything far less probable than the most probable token."""
        shares = softmax(scores)
        line = np.float32(self.min_p) * shares.max()
        removed = shares < line
        near = (np.abs(shares - line) <= _FEW_UNITS * line + TINY) & (scores < scores.max())
        if np.isnan(line) or self.min_p == 0:
            near[:] = False
        highest = _highest(scores, self.min_tokens_to_keep)
        spared = removed[highest].any()
        removed[highest] = near[highest] = False
        if spared:
            order = rising(scores)
            near[order] |= _tied(scores[order], scores.size - self.min_tokens_to_keep)
        return removed, near

    def removes_all_below(self, row: ScoreRow) -> bool:
        """The bound is too far below the highest score, and below those that are kept in any case."""
        if not self.min_p > 0 or not row.bound < np.inf:
            return False
        spared = kth_highest(row.scores, min(self.min_tokens_to_keep, row.scores.size))
        return bool(row.bound - row.scores.max() < math.log(self.min_p) - _CERTAIN and row.bound < spared)

    def ignores_unknown(self, row: ScoreRow) -> bool:
        """Only the distance to the highest score matters, if that is known."""
        return self.min_tokens_to_keep == 1 and bool(row.bound <= row.scores.max())

    def cutoff(self, row: ScoreRow, token: int) -> Cutoff:
        """Probability against ``min_p`` times the highest."""
        shares = softmax(row.scores)
        line = float(np.float32(self.min_p) * shares.max())
        return _probability_cutoff(self, row, token, float(shares[token]), line)


class _Floor(Filter):
    """Removed: ``probability < a floor`` and below the ``min_tokens_to_keep`` highest scores."""

    min_tokens_to_keep: int

    def removes(self, scores: F32) -> tuple[Bools, Bools]:
        """Everything below the floor."""
        shares, floor = softmax(scores), np.float32(self.floor(scores))
        spare = scores < kth_highest(scores, min(self.min_tokens_to_keep, scores.size))
        near = np.abs(shares - floor) <= self.floor_error(scores.size) * floor + TINY
        return (shares < floor) & spare, near & spare

    @abstractmethod
    def floor(self, scores: F32) -> float:
        """The smallest probability that is kept."""

    def floor_error(self, count: int) -> float:
        """Relative error of comparing with the floor."""
        return sum_error(count)

    def cutoff(self, row: ScoreRow, token: int) -> Cutoff:
        """Probability against the floor."""
        shares = softmax(row.scores)
        return _probability_cutoff(self, row, token, float(shares[token]), self.floor(row.scores))


@dataclass(frozen=True)
class Epsilon(_Floor):
    """Removed: ``probability < epsilon``."""

    epsilon: float
    filter_value: float = -math.inf
    min_tokens_to_keep: int = 1
    class_name: ClassVar[str] = "EpsilonLogitsWarper"

    def floor(self, scores: F32) -> float:
        """Epsilon itself."""
        return self.epsilon


@dataclass(frozen=True)
class Eta(_Floor):
    """Removed: ``probability < min(epsilon, sqrt(epsilon) · exp(-entropy))``, entropy in nats."""

    epsilon: float
    filter_value: float = -math.inf
    min_tokens_to_keep: int = 1
    class_name: ClassVar[str] = "EtaLogitsWarper"

    def __post_init__(self) -> None:
        # transformers keeps it as a float32 tensor, and so does the record.
        object.__setattr__(self, "epsilon", float(np.float32(self.epsilon)))

    def floor(self, scores: F32) -> float:
        """A floor that is lower where many tokens are likely."""
        value = math.sqrt(self.epsilon) * math.exp(-entropy_nats(scores))
        return value if math.isnan(value) else min(self.epsilon, value)

    def floor_error(self, count: int) -> float:
        """Larger than for epsilon by the rounding of the entropy."""
        return 8 * sum_error(count)


@dataclass(frozen=True)
class Typical(Filter):
    """Removed: tokens whose information ``-log p`` is farther from the entropy than those making up ``mass``.

    Tokens are taken by distance until their probabilities reach ``mass``; what is farther away than the last
    one is removed. The ``min_tokens_to_keep`` nearest are always kept.
    """

    mass: float
    filter_value: float = -math.inf
    min_tokens_to_keep: int = 1
    class_name: ClassVar[str] = "TypicalLogitsWarper"

    def removes(self, scores: F32) -> tuple[Bools, Bools]:
        """The least typical tokens."""
        distances = self.distances(scores)
        order = rising(distances)
        sums = cumulated(softmax(scores)[order])
        farthest = distances[order]
        line, last = farthest[_last(sums, self.mass)], order[_last(sums, self.mass)]
        # Rounding moves every distance by about a unit of the largest score, and each sum by its own error.
        blur = np.float32(_FEW_UNITS * (2 + float(np.abs(scores[np.isfinite(scores)]).max(initial=0.0))))
        error = 2 * sum_error(scores.size)
        low = farthest[_last(sums, self.mass * (1 - error))] - 2 * blur
        high = farthest[_last(sums, self.mass * (1 + error))] + 2 * blur
        near = (distances >= low) & (distances <= high) & np.isfinite(distances)
        if (scores[near] == scores[last]).all():  # the cutoff is this token's, whatever the rounding
            near[:] = False
        removed = distances > line
        spared = order[: self.min_tokens_to_keep]
        if removed[spared].any() and spared.size < order.size:
            edge, beyond = distances[order[spared.size - 1 : spared.size + 1]]
            if beyond <= edge + 2 * blur and np.isfinite(edge):
                near |= (distances >= edge - 2 * blur) & (distances <= beyond + 2 * blur)
        removed[spared] = False
        return removed, near

    def distances(self, scores: F32) -> F32:
        """``|-log p - entropy|`` of each token; infinite for removed ones."""
        with np.errstate(all="ignore"):
            distances: F32 = np.abs(-log_softmax(scores) - entropy_nats(scores)).astype(np.float32)
        return distances

    def cutoff(self, row: ScoreRow, token: int) -> Cutoff:
        """Distance against that of the last token that is kept."""
        distances = self.distances(row.scores)
        order = rising(distances)
        line = float(distances[order][_last(cumulated(softmax(row.scores)[order]), self.mass)])
        value = float(distances[token])
        return Cutoff("surprise", value, line, line - value, None)


def _highest(scores: F32, count: int) -> Indices:
    """Indices of the highest scores, equal ones by index."""
    if count == 1:
        return np.array([scores.argmax()])
    return np.argsort(-scores, kind="stable")[:count]


def _tied(rising_scores: F32, place: int) -> Bools:
    """Tokens with equal scores on both sides of a cutoff: which of them are below it is open.

    Args:
        rising_scores: scores in rising order.
        place: number of scores below the cutoff.
    """
    if 0 < place < rising_scores.size and rising_scores[place - 1] == rising_scores[place]:
        tied: Bools = rising_scores == rising_scores[place]
        return tied
    return np.zeros(rising_scores.shape, dtype=np.bool_)


def _last(sums: F32, mass: float) -> int:
    return min(int(np.count_nonzero(sums < np.float32(mass))), sums.size - 1)


def _probability_cutoff(of: Filter, row: ScoreRow, token: int, value: float, line: float) -> Cutoff:
    low = of.lowest_kept(row.scores)
    return Cutoff("probability", value, line, value - line, float(row.scores[token]) - low)
