"""Group beam search: what each group decides, and what it paid for tokens that earlier groups have taken.

Processors, choice and scorer run once for each group behind one forward pass. The scores of a step are put
together, each row's from its group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hooks.caught_step import CaughtStep
from hooks.decoding.beam_search import BeamWatch
from hooks.decoding.caught_beams import ROUNDING, CaughtBeams, on_places
from hooks.decoding.loop_watch import ScoreObserver
from hooks.faults import is_ours
from hooks.printing import printed_error
from hooks.scores.stages import GroupStages
from hooks.tensors import clone
from hooks.user_modes import unseen_by_modes
from tracer.schema.beams import BeamStep, Continuation


@dataclass(frozen=True)
class Diversity:
    """The processor that lets a group pay for tokens of earlier ones.

    Attributes:
        stage: the stage of the scores that it leads to.
        penalty: what each beam of an earlier group that goes on with a token costs it.
    """

    stage: int
    penalty: float


class GroupWatch(BeamWatch):
    """Follows the groups of one run.

    Args:
        arguments: of ``_group_beam_search``; its ``beam_scorer`` is replaced.
        keep_logits: whether something asks for the model's own logits.
    """

    def __init__(self, arguments: dict[str, Any], *, keep_logits: bool) -> None:
        super().__init__(arguments, keep_logits=keep_logits)
        processors = arguments["logits_processor"]
        self._stages = 1 + len(processors)
        self._diversity = next(
            (
                Diversity(stage, each._diversity_penalty)
                for stage, each in enumerate(processors, 1)
                if type(each).__name__ == "HammingDiversityLogitsProcessor"
            ),
            None,
        )
        self._scores: GroupStages | None = None
        self._epsilon = 0.0
        self._turn = -1

    def forwarded(self, outputs: Any) -> None:
        """It is over: there are scores for all rows, but they are processed group by group."""
        super().forwarded(outputs)
        self._epsilon = torch.finfo(outputs.logits.dtype).eps
        self._scores = GroupStages(self._stages, outputs.logits[:, -1, :], self.groups, self.beams)

    def scores(self) -> GroupStages | None:
        """The scores of all groups; None while not every one has some."""
        return self._scores if self._scores is not None and self._scores.count else None

    def observer(self, capture: ScoreObserver) -> ScoreObserver:
        """What the list of processors reports to, once for each group.

        Args:
            capture: what it reports to in other loops.
        """
        return _ByGroup(self, capture)

    def decided_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """All of them; a copy, since the loop exchanges rows in its own.

        They are what a new step begins with: no scores of the one before are its own.
        """
        self._scores, self._turn = None, -1
        return clone(input_ids)

    def put(self, step: CaughtStep) -> None:
        """Put what the scorer decided into the step."""
        if self._scores is not None and self._scores.count:
            step.vocab_size = self._scores.stages[0].shape[-1]
        super().put(step)

    @unseen_by_modes
    def on_scores(self, stage: int, scores: torch.Tensor) -> None:
        """Scores of the group whose turn it is.

        Args:
            stage: number of the stage.
            scores: ``[rows of the group, vocab]``.
        """
        if stage == 0:
            self._turn += 1
        try:
            if self._scores is not None:
                self._scores.put_group(self._turn, stage, scores)
        except Exception as error:
            if not is_ours(error):
                raise
            self._fault = self._fault or printed_error(error)  # the books are not affected

    def caught(self, record: BeamStep, tokens: tuple[int, ...], same: tuple[bool, ...]) -> CaughtBeams:
        """What was decided in a step.

        Args:
            record: the record of it.
            tokens: the token of each row after the step.
            same: for each group of each row, whether the rules lead to the same.
        """
        return CaughtGroups(record, tokens, same, self._diversity, self._epsilon)


class _ByGroup:
    """Keeps the scores of a group from what takes those of all rows."""

    def __init__(self, watch: GroupWatch, capture: ScoreObserver) -> None:
        self._watch = watch
        self._capture = capture

    def on_scores(self, stage: int, scores: torch.Tensor) -> None:
        """Scores of the group whose turn it is."""
        self._watch.on_scores(stage, scores)

    def on_scores_done(self, scores: torch.Tensor) -> torch.Tensor:
        """The last processor has run for a group."""
        return self._capture.on_scores_done(scores)

    def on_appended(self, input_ids: torch.Tensor) -> None:
        """The sequences with the tokens of all groups."""
        self._capture.on_appended(input_ids)

    def on_criterion(self, index: int, done: Any) -> None:
        """The answer of a criterion."""
        self._capture.on_criterion(index, done)

    def on_stopping_done(self, done: Any) -> Any:
        """The answer of all criteria."""
        return self._capture.on_stopping_done(done)


@dataclass(frozen=True)
class CaughtGroups(CaughtBeams):
    """What the scorer decided in a step, for all groups.

    Attributes:
        diversity: the processor that lets a group pay; None where there is none.
        epsilon: relative rounding of the scores, in whose precision it takes from them.
    """

    diversity: Diversity | None
    epsilon: float

    def figures(self, stages: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Figures of each continuation, with what the processor took from its score.

        Args:
            stages: ``[rows, vocab]`` scores of each stage.
        """
        found = super().figures(stages)
        if self.diversity is not None:
            before, after = (stages[self.diversity.stage - back] for back in (1, 0))
            found["penalties"] = on_places(self.continuations, before) - on_places(self.continuations, after)
        return found

    def completed(
        self, figures: Mapping[str, Sequence[float]], each: Continuation, place: int
    ) -> dict[str, Any]:
        """What a continuation is still to be told.

        Args:
            figures: see :meth:`figures`.
            each: the continuation.
            place: its place among all.
        """
        found = super().completed(figures, each, place)
        if "penalties" in figures:
            penalty = figures["penalties"][place]
            found["penalty"] = penalty if math.isfinite(penalty) else None  # of a token ruled out before
            found["taken_by"] = self._taken_by(each)
        return found

    def _taken_by(self, each: Continuation) -> tuple[int, ...]:
        """The rows of earlier groups of the same row of the batch that go on with a token."""
        beams = self.record.beams
        search = each.parent // beams
        first = search - search % self.record.groups
        return tuple(row for row in range(first * beams, search * beams) if self.tokens[row] == each.token)

    def fits(self, each: Continuation) -> bool:
        """Whether the figures of a continuation fit together, and it paid what earlier groups cost it.

        Args:
            each: the continuation, completed.
        """
        if not super().fits(each):
            return False
        if self.diversity is None or each.penalty is None or each.log_probability is None:
            return True
        due = self.diversity.penalty * len(each.taken_by)
        size = max(abs(each.log_probability) + due, 1.0)
        return math.isclose(each.penalty, due, abs_tol=max(ROUNDING, self.epsilon) * size)
