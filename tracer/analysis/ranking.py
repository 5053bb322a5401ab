"""The ranking of a contrastive search under another ``penalty_alpha`` or fewer candidates."""

from __future__ import annotations

import math

from tracer.schema.ranking import RowRanking


def scores_with(row: RowRanking, alpha: float, top_k: int | None = None) -> list[float]:
    """The scores of the candidates.

    Args:
        row: the ranking.
        alpha: weight of the penalty.
        top_k: number of candidates; None for all of them.
    """
    return [(1 - alpha) * each.probability - alpha * each.penalty for each in row.candidates[:top_k]]


def winner(row: RowRanking, alpha: float, top_k: int | None = None) -> int:
    """Place of the candidate that would have won.

    Args:
        row: the ranking.
        alpha: weight of the penalty; 0 ranks by probability alone.
        top_k: number of candidates, not above that of the ranking; None for all of them.
    """
    scores = scores_with(row, alpha, top_k)
    nothing = next((place for place, each in enumerate(scores) if math.isnan(each)), None)
    if nothing is not None:  # which torch takes for the highest
        return nothing
    return max(range(len(scores)), key=scores.__getitem__)


def winning_alphas(row: RowRanking, place: int) -> tuple[float, float] | None:
    """Between which values of ``penalty_alpha``, from 0 to 1, a candidate has the highest score.

    A score is a straight line over ``penalty_alpha``: each other candidate cuts off what is on one side of
    where two lines meet.

    Args:
        row: the ranking.
        place: place of the candidate.

    Returns:
        The lowest and the highest such value; None where there is none.
    """
    own = row.candidates[place]
    low, high = 0.0, 1.0
    for other in row.candidates:
        # own is ahead where more + alpha * slope >= 0
        more = own.probability - other.probability
        slope = -more - (own.penalty - other.penalty)
        if slope > 0:
            low = max(low, -more / slope)
        elif slope < 0:
            high = min(high, more / -slope)
        elif more < 0:
            return None
    return (low, high) if low <= high else None


def winning_top_k(row: RowRanking, place: int) -> int | None:
    """The largest ``top_k`` with which a candidate would have won; None where there is none.

    Args:
        row: the ranking.
        place: place of the candidate.
    """
    scores = [each.score for each in row.candidates]
    if any(score > scores[place] for score in scores[:place]):
        return None
    better = (other for other in range(place + 1, len(scores)) if scores[other] > scores[place])
    return next(better, len(scores))
