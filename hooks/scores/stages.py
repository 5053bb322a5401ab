"""The scores of a step from the raw logits through every processor and warper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hooks.native import compiled
from hooks.tensors import detached, to_host
from tracer.analysis.scores.summary import is_quick, summarise
from tracer.schema.columns import ScoreColumns


class ScoreStages:
    """Copies of the scores of one step, stage after stage; a later processor may edit what it is given.

    Args:
        stages: how many there will be.
        logits: ``[batch, vocab]`` that the first stage will have.

    Attributes:
        count: stages so far.
        device: where the scores are.
    """

    def __init__(self, stages: int, logits: torch.Tensor) -> None:
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        self._all = torch.empty((stages, *logits.shape), dtype=dtype, device=logits.device)
        self._total = stages
        self.count = 0
        self.device = logits.device

    def put(self, stage: int, scores: torch.Tensor) -> None:
        """Copy the scores of a stage; none is taken behind one that is missing.

        Args:
            stage: 0 for the raw logits, then that of each processor.
            scores: ``[batch, vocab]``.
        """
        if stage != self.count:
            return  # behind a stage that could not be copied, whose place holds nothing that was measured
        if scores.shape[-1] != self._all.shape[-1]:
            scores = self._of_one_width(scores)
        if not compiled.put(self._all, stage, scores):
            self._all[stage].copy_(detached(scores))
        self.count = stage + 1

    def _of_one_width(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores of a processor that has left out the last tokens, or added some: at -inf where they lack."""
        more = scores.shape[-1] - self._all.shape[-1]
        if more > 0:
            self._all = torch.nn.functional.pad(self._all, (0, more), value=-torch.inf)
            return scores
        return torch.nn.functional.pad(detached(scores), (0, -more), value=-torch.inf)

    def follow(self, parents: Sequence[int]) -> None:
        """Give each row the scores of the row that it continues.

        Args:
            parents: that row, for each row.
        """
        self._all = self._all[:, [*parents]]

    @property
    def complete(self) -> bool:
        """Whether all stages are there."""
        return self.count == self._total

    @property
    def stages(self) -> torch.Tensor:
        """``[stages so far, batch, vocab]``; float64 for logits of that dtype, else float32."""
        return self._all if self.complete else self._all[: self.count]

    def summary(self, chosen: torch.Tensor, cap: int) -> ScoreColumns | None:
        """The columns that a step's record keeps, computed while the scores are in the processor's cache.

        The thread that writes would have to fetch them from memory, against a model that uses all of its
        bandwidth: that costs about three times as much.

        Args:
            chosen: ``[batch]`` the appended tokens.
            cap: largest length of each list of recorded tokens.

        Returns:
            The columns, which do not know which rows had ended; None where the writer computes them: for
            scores on a GPU, or without compiled code.
        """
        if self.device.type != "cpu":
            return None
        scores = to_host(self.stages)
        if not is_quick(scores.dtype):
            return None
        tokens = to_host(chosen)
        return summarise(scores, tokens, np.zeros(tokens.size, dtype=np.bool_), cap)


class GroupStages(ScoreStages):
    """The same where the rows of each group are processed for themselves, group after group.

    Args:
        stages: how many there will be.
        logits: ``[rows, vocab]`` of all rows: those of a batch row behind one another, and in it those of a
            group.
        groups: groups of each row of the batch.
        beams: beams of each group.
    """

    def __init__(self, stages: int, logits: torch.Tensor, groups: int, beams: int) -> None:
        super().__init__(stages, logits)
        self._by_group = self._all.view(stages, -1, groups, beams, logits.shape[-1])
        self._counts = [0] * groups

    def put_group(self, group: int, stage: int, scores: torch.Tensor) -> None:
        """Copy the scores of a group at a stage; none is taken behind one that is missing.

        Args:
            group: the group, from 0.
            stage: see :meth:`put`.
            scores: ``[rows of the group, vocab]``.
        """
        if not 0 <= group < len(self._counts) or stage != self._counts[group]:
            return
        place = self._by_group[stage, :, group]
        place.copy_(detached(scores).view_as(place))
        self._counts[group] = stage + 1
        self.count = min(self._counts)
