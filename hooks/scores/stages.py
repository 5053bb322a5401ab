"""The scores of a step from the raw logits through every processor and warper."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hooks.native.team import share_out
from hooks.tensors import detached, to_host
from tracer.analysis.scores.native import compiled_summary
from tracer.analysis.scores.summary import QuickSummary, quick_summary

if compiled_summary.use_team is not None:
    share_out(compiled_summary.use_team)


class ScoreStages:
    """The scores of one step, stage after stage: copies, since a later processor may edit what it is given.

    Args:
        stages: how many there will be.
        logits: ``[batch, vocab]`` that the first stage will have.
        stay: whether nothing is known to write into them, so that the tensors themselves will do.

    Attributes:
        device: where the scores are.
    """

    def __init__(self, stages: int, logits: torch.Tensor, *, stay: bool = False) -> None:
        self._stages: list[torch.Tensor] = []
        self._lent: dict[int, int] = {}  # version of each that is no copy
        self._total = stages
        self._stay = stay
        self._dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        self.device = logits.device

    def put(self, stage: int, scores: torch.Tensor) -> None:
        """Take the scores of a stage; none is taken behind one that is missing.

        Args:
            stage: 0 for the raw logits, then that of each processor.
            scores: ``[batch, vocab]``.
        """
        if stage != len(self._stages):
            return  # behind a stage that could not be taken
        if self._stages and scores.shape[-1] != self._stages[0].shape[-1]:
            scores = self._of_one_width(scores)
        if self._stay and self._is_like_a_copy(scores):
            self._lent[stage] = scores._version
        else:
            scores = self._copied(scores)
        self._stages.append(scores)

    def _is_like_a_copy(self, scores: torch.Tensor) -> bool:
        """Whether scores are as a copy of them would be, and tell of it when they are written to."""
        return (
            type(scores) is torch.Tensor
            and scores.dtype == self._dtype
            and scores.device == self.device
            and scores.is_contiguous()
            and not scores.requires_grad
            and not scores.is_inference()
        )

    def _copied(self, scores: torch.Tensor) -> torch.Tensor:
        return detached(scores).to(self.device, self._dtype, copy=True).contiguous()

    def _of_one_width(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores of a processor that has left out the last tokens, or added some: at -inf where they lack."""
        more = scores.shape[-1] - self._stages[0].shape[-1]
        if more < 0:
            return _widened(scores, -more)
        self.own()
        self._stages = [_widened(each, more) for each in self._stages]
        return scores

    def own(self) -> list[torch.Tensor]:
        """Somebody may write into the scores from now on: copy those that are not copies.

        Returns:
            The stages so far.
        """
        stages = self.stages
        for place in self._lent:
            stages[place] = self._copied(stages[place])
        self._lent.clear()
        self._stay = False
        return stages

    def follow(self, parents: Sequence[int]) -> None:
        """Give each row the scores of the row that it continues.

        Args:
            parents: that row, for each row.
        """
        self._stages = [stage[[*parents]] for stage in self.stages]
        self._lent.clear()

    @property
    def count(self) -> int:
        """Stages so far."""
        return len(self._stages)

    @property
    def complete(self) -> bool:
        """Whether all stages are there."""
        return self.count == self._total

    @property
    def stages(self) -> list[torch.Tensor]:
        """``[batch, vocab]`` of each stage so far; float64 for logits of that dtype, else float32."""
        return self._stages

    def written(self) -> int | None:
        """The first stage whose scores are no copy and were written to after all, if there is one."""
        for place, version in self._lent.items():
            if self._stages[place]._version != version:
                return place
        return None

    def summary(self, chosen: torch.Tensor, cap: int) -> QuickSummary | None:
        """The summary that a step's record keeps, computed while the scores are in the processor's cache.

        The thread that writes would have to fetch them from memory, against a model that uses all of its
        bandwidth: that costs about three times as much.

        Args:
            chosen: ``[batch]`` the appended tokens.
            cap: largest length of each list of recorded tokens.

        Returns:
            The summary; None where the writer computes it: for scores on a GPU, or without compiled code.
        """
        if self.device.type != "cpu":
            return None
        scores = [stage.numpy() for stage in self.stages]  # plain, and of no graph
        return quick_summary(scores, to_host(chosen), cap, shares=True)


def _widened(scores: torch.Tensor, more: int) -> torch.Tensor:
    """Scores with more tokens behind, which are removed."""
    return torch.nn.functional.pad(detached(scores), (0, more), value=-torch.inf)


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
        self._all = torch.empty((stages, *logits.shape), dtype=self._dtype, device=self.device)
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
        self._stages += self._all[self.count : min(self._counts)].unbind()
