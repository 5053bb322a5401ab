"""Processors that change scores or remove tokens by id.

Sources are classes of ``transformers/generation/logits_process.py``, named by ``class_name``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from tracer.analysis.processors.processor import Context, Processor, ScoreRow
from tracer.analysis.processors.softmax import log_softmax
from tracer.schema.arrays import F32, I64


@dataclass(frozen=True)
class Temperature(Processor):
    """``scores / temperature``."""

    temperature: float
    class_name: ClassVar[str] = "TemperatureLogitsWarper"

    def apply(self, row: ScoreRow, context: Context) -> ScoreRow:
        """Divide every score."""
        bound = context.divide(np.array([row.bound], dtype=np.float32), self.temperature)
        return replace(row, scores=context.divide(row.scores, self.temperature), bound=float(bound[0]))


@dataclass(frozen=True)
class HammingDiversity(Processor):
    """Takes from the score of a token for each beam of an earlier group that goes on with it.

    Its own record has no settings: the penalty is that of the run.
    """

    diversity_penalty: float
    class_name: ClassVar[str] = "HammingDiversityLogitsProcessor"

    def apply(self, row: ScoreRow, context: Context) -> ScoreRow:
        """Let the tokens pay that earlier groups have taken; an unknown one may be among them or not."""
        if context.taken is None:
            return replace(row, scores=np.full_like(row.scores, -np.inf), estimated=True)
        tokens, counts = np.unique(_known(context.taken, row), return_counts=True)
        scores = row.scores.copy()
        scores[tokens] -= np.float32(self.diversity_penalty) * counts.astype(np.float32)
        return replace(row, scores=scores)


@dataclass(frozen=True)
class RepetitionPenalty(Processor):
    """Multiplies negative scores of tokens seen before by the penalty, and divides others by it.

    Leading ids may not count: in newer releases those of the padding. One number is for all rows, or for
    each its own.
    """

    penalty: float
    prompt_ignore_length: tuple[int, ...] = ()
    class_name: ClassVar[str] = "RepetitionPenaltyLogitsProcessor"

    def __post_init__(self) -> None:
        if not any(self.prompt_ignore_length):
            object.__setattr__(self, "prompt_ignore_length", ())

    def apply(self, row: ScoreRow, context: Context) -> ScoreRow:
        """Penalise the tokens of the history, each once."""
        scores = row.scores.copy()
        seen = _known(self.counted(context), row)
        scores[seen] = self._penalised(scores[seen], context)
        # An unknown token may or may not have been seen.
        bound = self._penalised(np.array([row.bound], dtype=np.float32), context)
        return replace(row, scores=scores, bound=max(row.bound, float(bound[0])))

    def counted(self, context: Context) -> I64:
        """The ids of the history that count as seen."""
        if not self.prompt_ignore_length:
            return context.history
        own = min(context.row, len(self.prompt_ignore_length) - 1)
        return context.history[max(0, self.prompt_ignore_length[own]) :]

    def _penalised(self, scores: F32, context: Context) -> F32:
        with np.errstate(over="ignore", invalid="ignore"):
            worse = scores * np.float32(self.penalty)
        return np.where(scores < 0, worse, context.divide(scores, self.penalty))


class Banning(Processor):
    """Sets some tokens to ``-inf``, by id."""

    def apply(self, row: ScoreRow, context: Context) -> ScoreRow:
        """Remove the banned tokens."""
        banned = _known(self.banned(context), row)
        if not banned.size:
            return row
        scores = row.scores.copy()
        scores[banned] = -np.inf
        return replace(row, scores=scores)

    def banned(self, context: Context) -> I64:
        """Ids to remove; empty where nothing is banned."""
        raise NotImplementedError


def _ids(values: tuple[int, ...]) -> I64:
    return np.array(values, dtype=np.int64)


def _known(ids: I64, row: ScoreRow) -> I64:
    """The ids that have a score."""
    return ids[(ids >= 0) & (ids < row.scores.size)]


@dataclass(frozen=True)
class NoRepeatNGram(Banning):
    """Bans every token that would complete an n-gram of the history."""

    ngram_size: int
    class_name: ClassVar[str] = "NoRepeatNGramLogitsProcessor"

    def banned(self, context: Context) -> I64:
        """Followers of the last ``ngram_size - 1`` ids."""
        history, size = context.history, self.ngram_size
        if size < 1 or history.size + 1 < size or history.size < size:
            return _ids(())
        windows = np.lib.stride_tricks.sliding_window_view(history, size)
        tail = history[history.size + 1 - size :]
        return np.unique(windows[(windows[:, :-1] == tail).all(axis=1), -1])


@dataclass(frozen=True)
class MinLength(Banning):
    """Bans end tokens while the whole sequence is shorter than ``min_length``."""

    min_length: int
    eos_token_id: tuple[int, ...]
    class_name: ClassVar[str] = "MinLengthLogitsProcessor"

    def banned(self, context: Context) -> I64:
        """The ids that end a sequence."""
        return _ids(self.eos_token_id if context.history.size < self.min_length else ())


@dataclass(frozen=True)
class MinNewTokens(Banning):
    """Bans end tokens while fewer than ``min_new_tokens`` are new."""

    prompt_length_to_skip: int
    min_new_tokens: int
    eos_token_id: tuple[int, ...]
    class_name: ClassVar[str] = "MinNewTokensLengthLogitsProcessor"

    def banned(self, context: Context) -> I64:
        """The ids that end a sequence."""
        new = context.history.size - self.prompt_length_to_skip
        return _ids(self.eos_token_id if new < self.min_new_tokens else ())


@dataclass(frozen=True)
class Suppress(Banning):
    """Bans given tokens at every step."""

    suppress_tokens: tuple[int, ...]
    class_name: ClassVar[str] = "SuppressTokensLogitsProcessor"

    def banned(self, context: Context) -> I64:
        """The given ids."""
        return _ids(self.suppress_tokens)


@dataclass(frozen=True)
class SuppressAtBegin(Banning):
    """Bans given tokens at one length."""

    begin_suppress_tokens: tuple[int, ...]
    begin_index: int
    class_name: ClassVar[str] = "SuppressTokensAtBeginLogitsProcessor"

    def banned(self, context: Context) -> I64:
        """The given ids."""
        return _ids(self.begin_suppress_tokens if context.history.size == self.begin_index else ())


class _Forcing(Processor):
    """Removes all but given tokens, at one length."""

    def apply(self, row: ScoreRow, context: Context) -> ScoreRow:
        """Give the forced tokens the score 0 and remove all others."""
        forced = _known(self.forced(context), row)
        if not forced.size:
            return row
        scores = np.full_like(row.scores, -np.inf)
        scores[forced] = 0.0
        return ScoreRow(scores, -np.inf)

    def forced(self, context: Context) -> I64:
        """Ids to force; empty at other lengths."""
        raise NotImplementedError


@dataclass(frozen=True)
class ForcedBeginning(_Forcing):
    """Forces the token after the first one."""

    bos_token_id: int
    class_name: ClassVar[str] = "ForcedBOSTokenLogitsProcessor"

    def forced(self, context: Context) -> I64:
        """The given id where the history is one token."""
        return _ids((self.bos_token_id,) if context.history.size == 1 else ())


@dataclass(frozen=True)
class ForcedEnd(_Forcing):
    """Forces an end token where the length limit leaves room for one token."""

    max_length: int
    eos_token_id: tuple[int, ...]
    class_name: ClassVar[str] = "ForcedEOSTokenLogitsProcessor"

    def forced(self, context: Context) -> I64:
        """The ids that end a sequence."""
        return _ids(self.eos_token_id if context.history.size == self.max_length - 1 else ())


@dataclass(frozen=True)
class ExponentialDecay(Processor):
    """Raises the scores of end tokens, the more the longer the sequence is."""

    regulation_start: int
    regulation_factor: float
    eos_token_id: tuple[int, ...]
    class_name: ClassVar[str] = "ExponentialDecayLengthPenalty"

    def apply(self, row: ScoreRow, context: Context) -> ScoreRow:
        """Add ``|score| · (factor ** steps beyond the start - 1)`` to the end tokens."""
        beyond = context.history.size - self.regulation_start
        if beyond <= 0:
            return row
        scores, ends = row.scores.copy(), _known(_ids(self.eos_token_id), row)
        with np.errstate(over="ignore", invalid="ignore"):
            scores[ends] += np.abs(scores[ends]) * np.float32(self.regulation_factor**beyond - 1)
        known = bool(np.isfinite(row.scores[ends]).all()) or row.complete
        return replace(row, scores=scores, bound=row.bound if known else np.inf)


@dataclass(frozen=True)
class RemoveInvalid(Processor):
    """Replaces NaN by 0, and infinities by the largest and smallest float32."""

    class_name: ClassVar[str] = "InfNanRemoveLogitsProcessor"

    def apply(self, row: ScoreRow, context: Context) -> ScoreRow:
        """Replace what is not finite."""
        limits = np.finfo(np.float32)
        scores = np.clip(np.where(np.isnan(row.scores), np.float32(0), row.scores), limits.min, limits.max)
        return replace(row, scores=scores, bound=row.bound if row.complete else np.inf)


@dataclass(frozen=True)
class Normalisation(Processor):
    """Turns scores into log-probabilities; equal to torch within rounding, not to the last bit."""

    class_name: ClassVar[str] = "LogitNormalization"

    def apply(self, row: ScoreRow, context: Context) -> ScoreRow:
        """Take the log-softmax."""
        scores = log_softmax(row.scores).astype(np.float32)
        return replace(row, scores=scores, bound=row.bound if row.complete else np.inf)
