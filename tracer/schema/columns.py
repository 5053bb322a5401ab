"""The numbers of a step, in columns: scores by stage, statistics by module call, norms of cache slots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracer.schema.arrays import F32, I32, Bools

NO_TOKEN = -1
"""Pads a row's token list where another row of the batch has more tokens."""


REMOVED_CAP = 32
"""A stage that removes more tokens than this is described by its count and the recorded tokens."""


@dataclass(frozen=True, eq=False)
class ScoreColumns:
    """The score pipeline, from raw logits to the choice.

    S stages (stage 0: raw logits; stage i: after processor i), B rows, T recorded tokens, R removed tokens.
    The recorded tokens of a row are the highest raw logits, the candidates left at the end (each list up to
    the cap) and the chosen token, in the order of final probability, then raw logit.

    Attributes:
        tokens: ``[B, T]`` ids, :data:`NO_TOKEN` where a row has fewer.
        scores: ``[S, B, T]`` score of each recorded token at each stage; ``-inf`` once removed.
        probabilities: ``[B, T]`` softmax of the last stage.
        kept: ``[S, B]`` tokens with a score above ``-inf``.
        changed: ``[S, B]`` scores that the stage's processor changed, removals included (0 at stage 0).
        removed: ``[S, B]`` scores that it set to ``-inf``.
        mass_removed: ``[S, B]`` probability, at the stage before, of what it removed.
        entropy: ``[S, B]`` entropy of the stage's softmax in bits.
        removed_tokens: ``[S, B, R]`` the removed ids if there are at most :data:`REMOVED_CAP`, else
            :data:`NO_TOKEN`.
        candidates: ``[B]`` tokens with probability > 0 at the end (the true count, uncapped).
        chosen: ``[B]`` the token appended to each row (the pad token for a finished row);
            :data:`NO_TOKEN` where the run failed before.
        chosen_rank: ``[S, B]`` 1 + number of tokens with a higher score at that stage.
        chosen_scores: ``[S, B]`` score of the chosen token.
        chosen_probability: ``[B]``.
        finished: ``[B]`` whether the row had ended before this step.
    """

    tokens: I32
    scores: F32
    probabilities: F32
    kept: I32
    changed: I32
    removed: I32
    mass_removed: F32
    entropy: F32
    removed_tokens: I32
    candidates: I32
    chosen: I32
    chosen_rank: I32
    chosen_scores: F32
    chosen_probability: F32
    finished: Bools


@dataclass(frozen=True, eq=False)
class ModuleColumns:
    """Shape and statistics per module call, in the order of the step's :class:`CallLayout`.

    Attributes:
        shapes: ``[C]`` number of the call's :class:`CallShape`.
        mean: ``[C]`` of the first output tensor; NaN where no statistics were taken.
        std: ``[C]`` population standard deviation.
        low: ``[C]`` minimum.
        high: ``[C]`` maximum.
        nonfinite: ``[C]`` number of NaN and infinite values; 1 too where it is only known that there are
            some, -1 where no statistics were taken.
    """

    shapes: I32
    mean: F32
    std: F32
    low: F32
    high: F32
    nonfinite: I32

    @property
    def largest(self) -> F32:
        """``[C]`` largest absolute value."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


@dataclass(frozen=True, eq=False)
class CacheColumns:
    """Euclidean norms of the slots that this step wrote.

    L layers, B rows, H KV heads, N new slots.

    Attributes:
        key_norm: ``[L, B, H, N]``.
        value_norm: ``[L, B, H, N]``.
    """

    key_norm: F32
    value_norm: F32
