"""A whole run in columns: one figure a step, for the strip of tokens and the charts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracer.schema.arrays import F32, I32
from tracer.schema.columns import NO_TOKEN
from tracer.schema.step import Step


@dataclass(frozen=True, eq=False)
class Overview:
    """Figures of N steps and B rows.

    Attributes:
        steps: ``[N]`` numbers of the steps.
        chosen: ``[N, B]`` the appended token, :data:`NO_TOKEN` where scores were not recorded.
        probability: ``[N, B]`` its probability, NaN where not recorded; so are the next three.
        rank: ``[N, B]`` its rank in the distribution chosen from, 0 where not recorded.
        entropy: ``[N, B]`` of that distribution, in bits.
        raw_entropy: ``[N, B]`` of the raw logits, in bits.
        candidates: ``[N, B]`` tokens that could have been chosen, 0 where not recorded.
        finished: ``[N, B]`` 1 where the row had ended before.
        parents: ``[N, B]`` the row before the step that each row continues.
        seconds: ``[N]`` duration of the step on the host.
        forward_seconds: ``[N]`` of which in the forward pass.
        slots: ``[N]`` cache slots in use after the step.
        cache_bytes: ``[N]`` bytes of the cache after the step, float32 since they may exceed 31 bits.
        trouble: ``[N]`` 2 for a violated check or a fault in recording, 1 for a change by the user, else 0.
    """

    steps: I32
    chosen: I32
    probability: F32
    rank: I32
    entropy: F32
    raw_entropy: F32
    candidates: I32
    finished: npt.NDArray[np.uint8]
    parents: I32
    seconds: F32
    forward_seconds: F32
    slots: I32
    cache_bytes: F32
    trouble: npt.NDArray[np.uint8]


class OverviewBuilder:
    """Collects the figures step by step.

    Args:
        rows: rows of the batch.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._per_row: list[tuple[npt.NDArray[np.generic], ...]] = []
        self._per_step: list[tuple[float, ...]] = []

    def add(self, step: Step) -> None:
        """Collect a step."""
        head, scores = step.head, step.scores
        parents = np.array([step.parent(row) for row in range(self._rows)], dtype=np.int32)
        failed = head.failure is not None or any(check.failed for check in head.checks)
        troubled = bool(failed or head.violations or head.errors)
        trouble = 2 if troubled else 1 if head.interventions else 0
        self._per_step.append(
            (
                step.number,
                head.seconds,
                head.forward_seconds,
                head.cache_after.length,
                head.cache_after.nbytes,
                trouble,
            )
        )
        if scores is None:
            unknown = np.full(self._rows, np.nan)
            nothing = np.zeros(self._rows, dtype=np.int32)
            self._per_row.append(
                (nothing + NO_TOKEN, unknown, nothing, unknown, unknown, nothing, nothing, parents)
            )
            return
        self._per_row.append(
            (
                scores.chosen,
                scores.chosen_probability,
                scores.chosen_rank[-1],
                scores.entropy[-1],
                scores.entropy[0],
                scores.candidates,
                scores.finished,
                parents,
            )
        )

    def result(self) -> Overview:
        """The steps collected so far."""
        count = len(self._per_step)
        step = np.array(self._per_step, dtype=np.float64).reshape(count, 6).T
        row = [
            np.stack([found[index] for found in self._per_row])
            if count
            else np.empty((0, self._rows), dtype=np.int32)
            for index in range(8)
        ]
        return Overview(
            steps=step[0].astype(np.int32),
            chosen=row[0].astype(np.int32),
            probability=row[1].astype(np.float32),
            rank=row[2].astype(np.int32),
            entropy=row[3].astype(np.float32),
            raw_entropy=row[4].astype(np.float32),
            candidates=row[5].astype(np.int32),
            finished=row[6].astype(np.uint8),
            parents=row[7].astype(np.int32),
            seconds=step[1].astype(np.float32),
            forward_seconds=step[2].astype(np.float32),
            slots=step[3].astype(np.int32),
            cache_bytes=step[4].astype(np.float32),
            trouble=step[5].astype(np.uint8),
        )
