"""The scores of a step as they go from the raw logits through processors and warpers."""

from __future__ import annotations

import numpy as np
import torch

from hooks.native import compiled
from hooks.tensors import plain, to_host
from tracer.analysis.scores.summary import is_quick, summarise
from tracer.schema.step import ScoreColumns


class StepScores:
    """Copies of the scores of one step, stage after stage; the next processor may edit what it is given.

    Args:
        stages: how many there will be.
        logits: ``[batch, vocab]`` that the first stage will have.

    Attributes:
        seen: stages so far.
        device: where the scores are.
    """

    def __init__(self, stages: int, logits: torch.Tensor) -> None:
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        self._all = torch.empty((stages, *logits.shape), dtype=dtype, device=logits.device)
        self.seen = 0
        self.device = logits.device

    def put(self, stage: int, scores: torch.Tensor) -> None:
        """Copy the scores of a stage.

        Args:
            stage: 0 for the raw logits, then that of each processor.
            scores: ``[batch, vocab]``.
        """
        if not compiled.put(self._all, stage, scores):
            self._all[stage].copy_(plain(scores))
        self.seen = stage + 1

    @property
    def stages(self) -> torch.Tensor:
        """``[stages so far, batch, vocab]``; float64 of logits of that kind, else float32."""
        return self._all[: self.seen]

    def summary(self, chosen: torch.Tensor, cap: int) -> ScoreColumns | None:
        """What a step's record keeps of them, made where they lie in the processor's cache still.

        The thread that writes would have to fetch them from memory, against a model that uses all of its
        bandwidth: that costs about three times as much.

        Args:
            chosen: ``[batch]`` the appended tokens.
            cap: largest length of each list of recorded tokens.

        Returns:
            The columns, which do not know what rows had ended; None where it is the writer's to make them:
            of scores on a GPU, or without compiled code.
        """
        if self.device.type != "cpu":
            return None
        scores = to_host(self.stages)
        if not is_quick(scores.dtype):
            return None
        return summarise(scores, to_host(chosen), np.zeros(len(chosen), dtype=np.bool_), cap)
