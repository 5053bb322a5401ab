"""Softmax, entropy and order of scores as torch computes them on the CPU, with bounds of their error."""

from __future__ import annotations

import numpy as np

from tracer.schema.arrays import F32, F64, Indices

UNIT = 2.0**-24
"""Unit roundoff of float32."""

TINY = 1e-37
"""Below this, torch's exponential may return zero or a subnormal number."""


def softmax(scores: F32) -> F32:
    """Softmax of float32 scores; all NaN if one is NaN or ``+inf``, or if all are ``-inf``, as in torch.

    The difference to the maximum is rounded to float32 as in torch; exponentials and sum are taken in
    float64, so the result is within :func:`sum_error` of any correct float32 softmax.

    Args:
        scores: ``[n]``.
    """
    with np.errstate(all="ignore"):
        weights = np.exp((scores - scores.max()).astype(np.float64))
        shares: F32 = (weights / weights.sum()).astype(np.float32)
    return shares


def log_softmax(scores: F32) -> F64:
    """Logarithm of the softmax, float64."""
    with np.errstate(all="ignore"):
        below: F64 = (scores - scores.max()).astype(np.float64)
        shares: F64 = below - np.log(np.exp(below).sum())
    return shares


def entropy_nats(scores: F32) -> float:
    """Entropy of the softmax in nats; NaN where the softmax is."""
    logs = log_softmax(scores)
    with np.errstate(all="ignore"):
        terms = np.exp(logs) * logs
    if np.isnan(logs).any():
        return float("nan")
    return float(-terms[logs > -np.inf].sum())


def cumulated(probabilities: F32) -> F32:
    """Running sums; torch adds float32 in float64 on the CPU and rounds each sum."""
    with np.errstate(all="ignore"):
        return np.cumsum(probabilities, dtype=np.float64).astype(np.float32)


def sum_error(count: int) -> float:
    """Upper bound of the relative error of a float32 probability.

    A few units for exponential, quotient and rounding, and the random walk of a sum of ``count`` float32
    numbers, whose rounding errors are independent (their worst case, linear in the count, needs all of them
    to have the same sign).

    Args:
        count: number of summands.
    """
    return UNIT * (8.0 + 2.0 * float(np.sqrt(count)))


def rising(scores: F32) -> Indices:
    """Indices in rising order, equal scores by index, NaN last.

    The warpers call ``torch.sort`` without ``stable=True``. Which of two equal scores comes first then
    depends on the release of torch and the machine (short rows are sorted stably, long ones with vector
    instructions are not), so a filter whose cutoff falls between equal scores must report them as doubtful.
    """
    return np.argsort(scores, kind="stable")


def kth_highest(scores: F32, count: int) -> np.float32:
    """The ``count``-th highest score; NaN counts as highest, as in ``torch.topk``."""
    place = scores.size - count
    highest: np.float32 = np.partition(scores, place)[place]
    return highest
