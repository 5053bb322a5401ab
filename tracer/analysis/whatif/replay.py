"""Replay a recorded run with what-if settings.

Every step is replayed with the recorded text before it. From the first step in which a row's token differs,
its text would be different; what would have followed is not in the recording, and is not guessed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tracer.analysis.draw import DrawStates, Replayer, context_of, final_scores
from tracer.analysis.processors.parsing import describe, parse_processors
from tracer.analysis.processors.processor import Opaque, PlacedProcessor, ScoreRow, final_row
from tracer.analysis.processors.settings import KNOBS, Settings, change_processors
from tracer.analysis.processors.softmax import entropy_nats, softmax
from tracer.analysis.runs import (
    RecordedRun,
    require_choice_by_row,
    saved_logits,
    scores_device,
    scores_dtype,
    whole_scores,
)
from tracer.analysis.whatif.ranked import ranked_whatif
from tracer.analysis.whatif.report import FirstDifference, WhatIfReport, WhatIfStep
from tracer.analysis.why.stages import RowStages, row_stages
from tracer.errors import UnsupportedError, UsageError
from tracer.schema.arrays import F32
from tracer.schema.step import Step


def whatif(run: RecordedRun, settings: Settings, *, replayer: Replayer | None = None) -> WhatIfReport:
    """Replay a run with what-if settings.

    Greedy choices need no torch. A drawn token needs the recorded RNG state and a replayer, unless only one
    candidate is left or the distribution does not change. The result is exact with saved logits, and without
    them wherever a processor (top-k, min-p) provably removes every token that was not recorded.

    Args:
        run: the run.
        settings: the changed settings.
        replayer: runs transformers' own processors and repeats draws.

    Raises:
        UsageError: a step's scores were not recorded, or the run's loop has no answer.
    """
    if run.header.ranks:
        return ranked_whatif(run, settings)
    replay = _Replay(run, settings, replayer)
    steps = [found for step in run.steps for found in replay.step(step)]
    first = tuple(_first_difference(row, steps) for row in range(len(run.header.prompt)))
    return WhatIfReport(
        settings=settings,
        processors=tuple(describe(placed, one_list=run.header.one_list) for placed in replay.placed),
        sampling=replay.sampling,
        steps=tuple(steps),
        first=first,
        notes=tuple(dict.fromkeys(replay.notes)),
    )


def whatif_grid(
    run: RecordedRun,
    grid: Mapping[str, Sequence[float]],
    *,
    base: Settings | None = None,
    replayer: Replayer | None = None,
) -> tuple[WhatIfReport, ...]:
    """Replay a run with every combination of settings, the last name varying fastest.

    Args:
        run: the run.
        grid: values by name of the setting, e.g. ``{"temperature": [0.5, 1.0], "top_p": [0.8]}``.
        base: settings common to all.
        replayer: see :func:`whatif`.

    Raises:
        UsageError: an unknown setting or an impossible value.
    """
    common = (base or Settings()).changes
    combinations = [
        Settings.of({**common, **dict(zip(grid, values, strict=True))})
        for values in itertools.product(*grid.values())
    ]
    return tuple(whatif(run, settings, replayer=replayer) for settings in combinations)


class _Chosen(NamedTuple):
    token: int | None
    certain: bool
    reason: str = ""


class _Replay:
    """Replays a run step by step; rows that diverged in an earlier step have no token any more."""

    def __init__(self, run: RecordedRun, settings: Settings, replayer: Replayer | None) -> None:
        require_choice_by_row(run.header, "What-if")
        if settings.penalty_alpha is not None:
            raise UsageError("penalty-alpha is a setting of contrastive search, which this run is not.")
        self._run = run
        self._replayer = replayer
        self._states = DrawStates(run, replayer) if replayer else None
        self._diverged: set[int] = set()
        header = run.header
        self._recorded = parse_processors(header)
        self.placed, self.sampling = change_processors(self._recorded, settings, do_sample=header.do_sample)
        self._common = next(
            (
                i
                for i, pair in enumerate(zip(self.placed, self._recorded, strict=False))
                if pair[0] != pair[1]
            ),
            min(len(self.placed), len(self._recorded)),
        )
        self.notes: list[str] = []
        useless = [name for name in settings.changes if name in KNOBS and KNOBS[name].role == "warper"]
        if useless and not self.sampling:
            self.notes.append(f"A greedy run has no warpers, so {', '.join(useless)} changes nothing.")

    def step(self, step: Step) -> list[WhatIfStep]:
        """All rows of a step that had not ended before it."""
        if step.head.failure is not None:
            self.notes.append(f"Step {step.number} is left out: the run failed at {step.head.failure.stop}.")
            return []
        columns = whole_scores(self._run.header, step)
        logits = saved_logits(self._run, step.number)
        known = [self._known(step, row, logits) for row in range(step.rows)]
        finals = [self._final(step, each) for each in known]
        chosen, reproduced = self._choose(step, known, finals)
        if step.head.interventions:
            self.notes.append(
                f"The user changed step {step.number}; the recorded token is not the model's own."
            )
        return [
            self._outcome(step, known[row], finals[row], chosen[row], reproduced)
            for row in np.flatnonzero(~columns.finished).tolist()
        ]

    def _known(self, step: Step, row: int, logits: F32 | None) -> RowStages:
        return row_stages(
            self._run.header,
            step,
            row,
            context_of(self._run, step, row),
            logits=None if logits is None else logits[row],
            replayer=self._replayer,
        )

    def _final(self, step: Step, known: RowStages) -> ScoreRow:
        """Scores after the changed processors, computed from the last stage before the first change."""
        row, rest = known.rows[self._common], self.placed[self._common :]
        if not rest:
            return row
        if self._common < known.start:
            self.notes.append(
                "A processor that cannot be repeated follows a changed one, so nothing is known."
            )
            return ScoreRow(known.rows[-1].scores, np.inf, estimated=True)
        usable = [each for each in rest if not isinstance(each.processor, Opaque)]
        found = self._transformers(step, known, usable) if row.complete else None
        if found is None:
            found = final_row(usable, row, known.context)
            kind = scores_dtype(self._run.header, step.head)
            if kind != "float32":
                self.notes.append(f"Scores were {kind}: the figures are estimates.")
                found = _estimate(found)
        if len(usable) < len(rest):
            self.notes.append("A processor that did nothing in the recorded run is taken to do nothing here.")
            found = _estimate(found)
        return found

    def _transformers(
        self, step: Step, known: RowStages, placed: Sequence[PlacedProcessor]
    ) -> ScoreRow | None:
        """The same with transformers' own processors; None without torch."""
        head, row = step.head, known.rows[self._common]
        if self._replayer is None or not placed:
            return None
        try:
            stages = self._replayer.process(
                placed,
                known.context,
                row.scores,
                device=scores_device(head),
                dtype=scores_dtype(self._run.header, head),
            )
        except UnsupportedError as error:
            self.notes.append(f"Repeated in NumPy instead of transformers: {error}.")
            return None
        return ScoreRow(stages[-1], doubtful=row.doubtful, estimated=row.estimated)

    def _choose(
        self, step: Step, known: Sequence[RowStages], finals: Sequence[ScoreRow]
    ) -> tuple[list[_Chosen], list[bool] | None]:
        """The token of every row, and whether the recorded draw was reproduced."""
        if not self.sampling:
            return [_highest(row) for row in finals], None
        sure = [_sure(each, row) for each, row in zip(known, finals, strict=True)]
        drawn, reproduced, reason = self._draw(step, finals)
        if drawn is None:
            return [each or _Chosen(None, False, reason) for each in sure], None
        trusted = [_drawn(*each) for each in zip(drawn, finals, reproduced, strict=True)]
        return [a or b for a, b in zip(sure, trusted, strict=True)], reproduced

    def _draw(self, step: Step, finals: Sequence[ScoreRow]) -> tuple[list[int] | None, list[bool], str]:
        """Draw with the recorded RNG state, from the recorded scores and from the what-if scores."""
        assert step.scores is not None
        if step.head.draw is None:
            return None, [], "the recorded run was greedy, so there is no random state to draw with"
        if self._states is None or self._replayer is None:
            return None, [], "the draw is repeated with torch only"
        device, kind = scores_device(step.head), scores_dtype(self._run.header, step.head)
        try:
            state = self._states.before(step.number)
            recorded = final_scores(self._run, step, self._replayer)
            before = self._replayer.draw(state, recorded, device=device, dtype=kind, places=1).tokens
            scores = np.stack([row.scores for row in finals])
            after = self._replayer.draw(state, scores, device=device, dtype=kind, places=1).tokens
        except (UnsupportedError, UsageError) as error:
            return None, [], str(error)
        finished = step.scores.finished
        return after.tolist(), ((before == step.scores.chosen) | finished).tolist(), ""

    def _outcome(
        self,
        step: Step,
        known: RowStages,
        final: ScoreRow,
        chosen: _Chosen,
        reproduced: list[bool] | None,
    ) -> WhatIfStep:
        row, columns = known.row, known.columns
        recorded, diverged = int(columns.chosen[row]), known.row in self._diverged
        token = None if diverged else chosen.token
        if token is not None and token != recorded:
            self._diverged.add(row)
        shares = softmax(final.scores)
        return WhatIfStep(
            step=step.number,
            row=row,
            recorded=recorded,
            token=token,
            same=None if token is None else token == recorded,
            kept=final.kept,
            recorded_kept=int(columns.kept[-1, row]),
            entropy=entropy_nats(final.scores) / float(np.log(2)),
            recorded_entropy=float(columns.entropy[-1, row]),
            probability=float(shares[recorded]),
            exact=final.exact,
            certain=chosen.certain and not diverged,
            diverged=diverged,
            complete=final.complete,
            reproduced=None if reproduced is None else reproduced[row],
            reason="the text before this step would be another" if diverged else chosen.reason,
        )


def _highest(row: ScoreRow) -> _Chosen:
    """The greedy choice; ``torch.argmax`` takes the first of equal scores, and NaN before any number."""
    token = int(row.scores.argmax())
    score = float(row.scores[token])
    if row.bound == np.inf or score == -np.inf:
        return _Chosen(None, False, "not enough was recorded")
    sure = not row.estimated and not row.doubtful.size
    return _Chosen(token, sure and bool(np.isnan(score) or score > row.bound))


def _drawn(token: int, row: ScoreRow, reproduced: bool) -> _Chosen:
    if row.bound == np.inf:
        return _Chosen(None, False, "not enough was recorded")
    if not reproduced:
        return _Chosen(None, False, "the recorded draw could not be reproduced")
    return _Chosen(token, row.exact)


def _estimate(row: ScoreRow) -> ScoreRow:
    """The same row, marked as an estimate."""
    return replace(row, estimated=True)


def _sure(known: RowStages, final: ScoreRow) -> _Chosen | None:
    """A sampled token that is known without a draw: a single candidate, or the recorded distribution."""
    if not final.exact:
        return None
    if final.kept == 1:
        return _Chosen(int(final.scores.argmax()), True)
    recorded = known.rows[-1]
    if recorded.exact and np.array_equal(final.scores, recorded.scores):
        return _Chosen(int(known.columns.chosen[known.row]), True)
    return None


def _first_difference(row: int, steps: Sequence[WhatIfStep]) -> FirstDifference:
    own = [step for step in steps if step.row == row]
    place = next((i for i, step in enumerate(own) if step.same is False), len(own))
    before = own[:place]
    unknown = next((step.step for step in before if step.token is None), None)
    sure = all(step.certain for step in own[: place + 1])
    if place == len(own):
        return FirstDifference(row, None, None, None, certain=sure, unknown_from=unknown)
    found = own[place]
    return FirstDifference(row, found.step, found.recorded, found.token, certain=sure, unknown_from=unknown)
