"""What a logits processor of transformers does to one row of scores, in NumPy.

The arithmetic is that of ``transformers/generation/logits_process.py`` in float32. Additions,
products, quotients and comparisons of scores are the same to the last bit. A softmax is not: its sum and its
exponentials depend on the release of torch and on the machine. A token that is kept or removed by less than
that difference is listed as *doubtful*; without doubtful tokens the removed set is that of transformers.

A row may be known in part: recorded tokens have scores, all others are known to score at most a *bound*.
Processors update the bound. Where it falls to ``-inf``, no unknown token is left and the row is exact.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np

from tracer.analysis.processors.roles import Role
from tracer.schema.arrays import F32, I64
from tracer.schema.run import ProcessorInfo

NOBODY: I64 = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class ScoreRow:
    """Scores of one row of the batch at one stage.

    Attributes:
        scores: ``[V]`` float32; ``-inf`` for removed tokens and for unknown ones.
        bound: no unknown token scores higher; ``-inf`` where every token left is known, ``+inf`` where
            nothing is known about the others.
        doubtful: ids of tokens about which rounding decides: transformers may have removed or kept them.
        estimated: known tokens may have been kept or removed wrongly, because unknown ones influence it.
    """

    scores: F32
    bound: float = -np.inf
    doubtful: I64 = field(default_factory=lambda: NOBODY)
    estimated: bool = False

    @property
    def complete(self) -> bool:
        """Whether no unknown token is left."""
        return self.bound == -np.inf

    @property
    def exact(self) -> bool:
        """Whether it is complete, free of doubt and no estimate."""
        return self.complete and not self.doubtful.size and not self.estimated

    @property
    def kept(self) -> int:
        """Known tokens with a score above ``-inf``."""
        return int(np.count_nonzero(self.scores > -np.inf))


@dataclass(frozen=True, eq=False)
class Context:
    """What processors get besides the scores.

    Attributes:
        history: the row's ``input_ids`` so far, padding included.
        reciprocal: CUDA multiplies with the reciprocal of a Python number where the CPU divides by it
            (``aten/src/ATen/native/cuda/BinaryDivTrueKernel.cu``), which may differ in the last bit.
        row: the row's number in the batch.
        taken: the tokens that earlier groups of a group search go on with in the step, one for each of their
            beams; None where they are not known.
    """

    history: I64 = field(default_factory=lambda: NOBODY)
    reciprocal: bool = False
    row: int = 0
    taken: I64 | None = None

    def divide(self, scores: F32, number: float) -> F32:
        """``scores / number`` as torch computes it for float32."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.reciprocal:
                return scores * (np.float32(1) / np.float32(number))
            return scores / np.float32(number)


@dataclass(frozen=True)
class Cutoff:
    """How a token compares with the cutoff of a filter.

    Attributes:
        measure: what the filter compares: ``score`` (top-k), ``probability above`` (top-p: of all tokens
            before this one), ``probability`` (min-p, epsilon, eta), ``entropy`` (top-h: of this token and all
            before it, in nats), ``surprise`` (typical: distance of the token's information from the entropy,
            in nats).
        value: the token's value.
        limit: the cutoff.
        margin: distance to the cutoff; negative when the token is removed (or zero with top-p, which removes
            a token at the cutoff itself).
        score_margin: score minus the lowest score that is kept; negative for a removed token. None for
            ``surprise``, which does not depend on the score alone.
    """

    measure: Literal["score", "probability above", "probability", "entropy", "surprise"]
    value: float
    limit: float
    margin: float
    score_margin: float | None


@dataclass(frozen=True)
class Processor(ABC):
    """One element of ``logits_processor`` or ``logits_warper``, by its settings.

    Attributes:
        class_name: the class in transformers.
    """

    class_name: ClassVar[str]

    @abstractmethod
    def apply(self, row: ScoreRow, context: Context) -> ScoreRow:
        """The row after this processor.

        Args:
            row: the row before.
            context: ids so far.
        """

    def cutoff(self, row: ScoreRow, token: int) -> Cutoff | None:
        """How a token of the row compares with the cutoff; None for a processor that is no filter.

        Args:
            row: the row before this processor.
            token: a token with a score in that row.
        """
        return None


@dataclass(frozen=True)
class Opaque(Processor):
    """A processor that cannot be repeated from its record: a custom class, or settings that are missing.

    Attributes:
        info: its record.
    """

    info: ProcessorInfo
    class_name: ClassVar[str] = ""

    def apply(self, row: ScoreRow, context: Context) -> ScoreRow:
        """A row of which nothing is known."""
        return replace(row, scores=np.full_like(row.scores, -np.inf), bound=np.inf, estimated=True)


@dataclass(frozen=True)
class PlacedProcessor:
    """A processor of a run.

    Attributes:
        role: what it is there for.
        processor: what it does.
    """

    role: Role
    processor: Processor

    @property
    def name(self) -> str:
        """The class in transformers."""
        if isinstance(self.processor, Opaque):
            return self.processor.info.class_name
        return self.processor.class_name


def run_pipeline(placed: Sequence[PlacedProcessor], row: ScoreRow, context: Context) -> list[ScoreRow]:
    """The row at every stage.

    Args:
        placed: processors in order.
        row: the raw logits.
        context: ids so far.

    Returns:
        The row itself and the row after each processor.
    """
    stages = [row]
    for element in placed:
        stages.append(element.processor.apply(stages[-1], context))
    return stages


def final_row(placed: Sequence[PlacedProcessor], row: ScoreRow, context: Context) -> ScoreRow:
    """The row after all processors (see :func:`run_pipeline`)."""
    for element in placed:
        row = element.processor.apply(row, context)
    return row
