"""A contrastive search with another ``penalty_alpha`` or fewer candidates.

Both change nothing but the ranking of the candidates, whose probabilities and penalties are recorded: with
the recorded text before it, each step's choice is exact.
"""

from __future__ import annotations

from tracer.analysis.processors.settings import Settings
from tracer.analysis.ranking import scores_with, winner
from tracer.analysis.runs import RecordedRun
from tracer.analysis.whatif.report import FirstDifference, WhatIfReport, WhatIfStep
from tracer.errors import UsageError
from tracer.schema.ranking import ContrastiveStep, RowRanking
from tracer.schema.step import Step

_TIE = 1e-6
"""Scores that are nearer than this may be ordered by rounding."""

RANKING_SETTINGS = frozenset({"penalty_alpha", "top_k"})
"""The settings whose effect on the ranking is known."""


def ranked_whatif(run: RecordedRun, settings: Settings) -> WhatIfReport:
    """Rank the candidates of every step again.

    Args:
        run: a contrastive search.
        settings: the changed settings: ``penalty_alpha``, ``top_k`` or both.

    Raises:
        UsageError: a setting that decides which candidates there are, or more of them than were read.
    """
    others = sorted(set(settings.changes) - RANKING_SETTINGS)
    if others:
        raise UsageError(
            f"What-if with {', '.join(others)} is not there for contrastive search: a step ranks its "
            "candidates by their hidden states, too, and others were not read. penalty_alpha and a smaller "
            "top_k are."
        )
    replay = _Ranking(settings)
    steps = [each for step in run.steps for each in replay.step(step)]
    return WhatIfReport(
        settings=settings,
        processors=run.header.processors,
        sampling=False,
        steps=tuple(steps),
        first=tuple(_first_difference(row, steps) for row in range(len(run.header.prompt))),
        notes=tuple(dict.fromkeys(replay.notes)),
    )


class _Ranking:
    """Ranks step by step; rows that diverged in an earlier step have no token any more."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._diverged: set[int] = set()
        self.notes: list[str] = []

    def step(self, step: Step) -> list[WhatIfStep]:
        """All rows of a step that had not ended before it."""
        found = step.head.contrastive
        if found is None:
            self.notes.append(f"Step {step.number} is left out: its ranking was not recorded.")
            return []
        return [self._row(step, found, row, each) for row, each in enumerate(found.rows) if each is not None]

    def _row(self, step: Step, found: ContrastiveStep, row: int, ranking: RowRanking) -> WhatIfStep:
        alpha, top_k = self._settings.penalty_alpha, self._settings.top_k
        alpha = found.penalty_alpha if alpha is None else alpha
        count = len(ranking.candidates)
        wanted = count if top_k is None else int(top_k)
        if not 1 <= wanted <= count:
            raise UsageError(
                f"top-k {wanted} is not possible: the model has read {count} candidates of each row, and "
                "what others would repeat is not known; give a number from 1 on that is not above it"
            )
        place = winner(ranking, alpha, wanted)
        token, recorded = ranking.candidates[place].token, ranking.winner.token
        diverged = row in self._diverged
        if token != recorded:
            self._diverged.add(row)
        entropy = 0.0 if step.scores is None else float(step.scores.entropy[-1, row])
        return WhatIfStep(
            step=step.number,
            row=row,
            recorded=recorded,
            token=None if diverged else token,
            same=None if diverged else token == recorded,
            kept=wanted,
            recorded_kept=count,
            entropy=entropy,
            recorded_entropy=entropy,
            probability=ranking.winner.probability,
            exact=True,
            certain=not diverged and _clear(ranking, alpha, wanted, place),
            diverged=diverged,
            reason="the text before this step would be another" if diverged else "",
        )


def _clear(ranking: RowRanking, alpha: float, top_k: int, place: int) -> bool:
    """Whether the winner is ahead by more than rounding."""
    scores = scores_with(ranking, alpha, top_k)
    return all(scores[place] - score > _TIE for at, score in enumerate(scores) if at != place)


def _first_difference(row: int, steps: list[WhatIfStep]) -> FirstDifference:
    own = [each for each in steps if each.row == row]
    found = next((each for each in own if each.same is False), None)
    if found is None:
        return FirstDifference(row, None, None, None, certain=all(each.certain for each in own))
    return FirstDifference(row, found.step, found.recorded, found.token, certain=found.certain)
