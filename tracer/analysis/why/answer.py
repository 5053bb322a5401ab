"""Why was this token chosen, and why not that one?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tracer.analysis.beams import taken_before
from tracer.analysis.draw import Replayer
from tracer.analysis.processors.filters import TopK
from tracer.analysis.processors.processor import Context, ScoreRow
from tracer.analysis.processors.softmax import softmax
from tracer.analysis.runs import (
    RecordedRun,
    check_row,
    history_of,
    saved_logits,
    scores_device,
    step_of,
)
from tracer.analysis.why.report import (
    CONTINUED_ALONE,
    NEEDS_LOGITS,
    Change,
    Rank,
    Source,
    TokenStage,
    Verdict,
    WhyReport,
)
from tracer.analysis.why.smallest_change import find_changes
from tracer.analysis.why.stages import RowStages, row_stages
from tracer.errors import UsageError
from tracer.library.first_scores import FIRST_SCORES
from tracer.schema.arrays import F32, I64
from tracer.schema.beams import BeamRow, Continuation
from tracer.schema.columns import NO_TOKEN
from tracer.schema.ranking import RowRanking
from tracer.schema.run import RunHeader, TokenText
from tracer.schema.step import Step


def why(
    header: RunHeader,
    step: Step,
    token: int,
    row: int = 0,
    *,
    tokens: Mapping[int, TokenText] | None = None,
    logits: F32 | None = None,
    history: Sequence[int] | I64 | None = None,
    replayer: Replayer | None = None,
    search: bool = True,
) -> WhyReport:
    """Follow a token through the score pipeline of a step.

    Recorded scores suffice for recorded tokens; ranks and cutoffs are exact where the recorded lists allow
    it, else bounds. Saved logits suffice for every token.

    Args:
        header: the run's header.
        step: the step.
        token: id of the token.
        row: row of the batch.
        tokens: texts of the recording.
        logits: saved raw logits, ``[V]`` of the row or ``[B, V]``.
        history: the row's ``input_ids`` before the step, padding included; not needed for step 1.
        replayer: runs saved logits through transformers' own processors; without it, NumPy's are used.
        search: whether to search for the smallest changes of settings, which takes most of the time.

    Raises:
        UsageError: there is no such row or token, or the step's scores were not recorded.
    """
    check_row(header, row)
    if not 0 <= token < step.head.vocab_size:
        raise UsageError(f"token {token} is outside the vocabulary of {step.head.vocab_size}")
    on_cuda = scores_device(step.head).startswith("cuda")
    context = Context(_ids(header, step, row, history), on_cuda, row, taken_before(step, row))
    scores = logits if logits is None or logits.ndim == 1 else logits[row]
    known = row_stages(header, step, row, context, logits=scores, replayer=replayer)
    return _Answer(header, step, known, token, tokens or {}).report(search=search)


def why_in_run(
    run: RecordedRun,
    number: int,
    token: int,
    row: int = 0,
    *,
    replayer: Replayer | None = None,
    search: bool = True,
) -> WhyReport:
    """Follow a token through a step of a run, with everything that the run recorded (see :func:`why`)."""
    check_row(run.header, row)
    step = step_of(run, number)
    return why(
        run.header,
        step,
        token,
        row,
        tokens=run.tokens,
        logits=saved_logits(run, number),
        history=history_of(run, number, step.parent(row)),
        replayer=replayer,
        search=search,
    )


def _ids(header: RunHeader, step: Step, row: int, history: Sequence[int] | I64 | None) -> I64:
    if history is None:
        if step.number > 1:
            raise UsageError(f"the ids before step {step.number} are needed")
        history = header.prompt[row].token_ids
    return np.asarray(history, dtype=np.int64)


class _Answer:
    """Builds the report about one token of one row."""

    def __init__(
        self, header: RunHeader, step: Step, known: RowStages, token: int, tokens: Mapping[int, TokenText]
    ) -> None:
        self._header = header
        self._step = step
        self._known = known
        self._columns = known.columns
        self._row = known.row
        self._token = token
        self._tokens = tokens
        places = np.flatnonzero(self._columns.tokens[self._row] == token)
        self._place = int(places[0]) if places.size else None

    def report(self, *, search: bool) -> WhyReport:
        columns, row = self._columns, self._row
        chosen = int(columns.chosen[row])
        stages = tuple(self._stage(stage) for stage in range(columns.scores.shape[0]))
        remover = next((view.stage for view in stages if view.removed), None)
        verdict = self._verdict(chosen, stages)
        known = verdict not in ("padding", "unknown") and self._recorded(0) is not None
        changes = self._changes() if search and known else ()
        return WhyReport(
            step=self._step.number,
            row=row,
            token=self._token,
            text=self._text(self._token),
            verdict=verdict,
            source=self._source(),
            chosen=chosen,
            chosen_text=self._text(chosen),
            chosen_probability=float(columns.chosen_probability[row]),
            probability=self._probability(stages),
            stages=stages,
            remover=remover,
            changes=changes,
            notes=self._notes(stages, verdict),
            loop=self._header.loop,
            continuation=self._continuation(),
            last=self._last(),
            last_of_bank=self._last_of_bank(),
            ranking=self._ranking,
            penalty_alpha=self._penalty_alpha,
        )

    def _search(self) -> BeamRow | None:
        """What a beam search decided about the row and those that it was compared with."""
        beams = self._step.head.beams
        return None if beams is None else beams.rows[self._row // beams.beams]

    def _changes(self) -> tuple[Change, ...]:
        """The smallest changes of settings; none where the highest score does not decide."""
        if self._ranking is not None:
            return ()
        return find_changes(self._known, self._token, do_sample=self._header.do_sample)

    @property
    def _penalty_alpha(self) -> float:
        found = self._step.head.contrastive
        return 0.0 if found is None else found.penalty_alpha

    @property
    def _ranking(self) -> RowRanking | None:
        """The candidates of a contrastive search."""
        found = self._step.head.contrastive
        return None if found is None or not found.rows else found.rows[self._row]

    def _rivals(self) -> tuple[Continuation, ...]:
        """The continuations of a beam search that the row's were compared with."""
        search = self._search()
        return () if search is None else search.continuations

    def _continuation(self) -> Continuation | None:
        """The row with this token, if it is among them.

        One that its score cuts may be there again, for advancing a constraint.
        """
        wanted = self._step.parent(self._row), self._token
        same = [each for each in self._rivals() if (each.parent, each.token) == wanted]
        return same[-1] if same else None

    def _last(self) -> float | None:
        """Score of the last of them that its score alone lets go on."""
        search = self._search()
        return None if search is None else search.cut_below

    def _last_of_bank(self) -> float | None:
        """Score of the last of those that go on of the continuation's own bank."""
        search, found = self._search(), self._continuation()
        return None if search is None or found is None else search.last_of_bank(found.bank)

    def _source(self) -> Source:
        if self._known.full:
            return "saved logits"
        unknown = self._place is None and not self._continued_alone()
        return "bounds" if unknown else "recorded scores"

    def _continued_alone(self) -> bool:
        """Whether the token is recorded as a continuation of the beam, and nowhere else."""
        return self._place is None and self._continued(self._step.head.stages - 1) is not None

    def _text(self, token: int) -> str | None:
        found = self._tokens.get(token)
        return None if found is None else found.text

    def _score(self, stage: int) -> float | None:
        """The token's score at a stage; None if it is not known."""
        found = self._recorded(stage)
        return self._continued(stage) if found is None else found

    def _continued(self, stage: int) -> float | None:
        """The score of a token that is recorded as a continuation alone: the last one.

        Where no later processor changed anything, it is that of an earlier stage too.
        """
        found = self._continuation()
        if found is None or self._columns.changed[stage + 1 :, self._row].any():
            return None
        return found.log_probability

    def _recorded(self, stage: int) -> float | None:
        """The token's score at a stage, if it is among the recorded or repeated ones."""
        if self._place is not None:
            return float(self._columns.scores[stage, self._row, self._place])
        row = self._known.rows[stage]
        score = float(row.scores[self._token])
        # In a row that is known in part, -inf may stand for "not recorded".
        return score if row.complete or score > -np.inf else None

    def _stage(self, stage: int) -> TokenStage:
        row, score = self._known.rows[stage], self._score(stage)
        kept = int(self._columns.kept[stage, self._row])
        view = TokenStage(
            stage=stage,
            list_name="raw",
            class_name="",
            settings={},
            kept=kept,
            score=score,
            at_most=row.bound if score is None else None,
            rank=self._rank(stage, row, score, kept),
            changed=None if score is None else False,
            removed=False,
        )
        return self._after_processor(view) if stage else view

    def _after_processor(self, view: TokenStage) -> TokenStage:
        """A stage with what its processor did to the token."""
        stage, score, before = view.stage, view.score, self._score(view.stage - 1)
        info = self._header.processors[stage - 1]
        cutoff = None
        if before is not None and before > -np.inf:
            processor = self._known.placed[stage - 1].processor
            cutoff = processor.cutoff(self._known.rows[stage - 1], self._token)
        return replace(
            view,
            list_name=info.list_name,
            class_name=info.class_name,
            settings=dict(info.settings),
            changed=None if score is None or before is None else score != before,
            removed=self._removed(stage, before, score),
            cut=cutoff,
            cut_exact=before is not None and before > -np.inf and self._cutoff_known(stage),
        )

    def _cutoff_known(self, stage: int) -> bool:
        """Whether every token that influences the cutoff of a stage's filter is known."""
        before, after = self._known.rows[stage - 1], self._known.rows[stage]
        # All that top-k kept is known, so the lowest of that is known, which is the cutoff.
        by_rank = isinstance(self._known.placed[stage - 1].processor, TopK)
        return before.complete or (by_rank and after.complete and before.bound < np.inf)

    def _removed(self, stage: int, before: float | None, score: float | None) -> bool | None:
        if before is not None:
            return before > -np.inf and score == -np.inf
        if self._alive_before(stage):
            listed = self._token in self._columns.removed_tokens[stage, self._row]
            return True if score == -np.inf or listed else None
        return False if self._gone_before(stage) else None

    def _alive_before(self, stage: int) -> bool:
        """Whether a token that was not recorded had certainly not been removed before a stage."""
        columns, row = self._columns, self._row
        room = columns.removed_tokens.shape[-1]
        return columns.kept[0, row] == self._step.head.vocab_size and all(
            columns.removed[earlier, row] <= room and self._token not in columns.removed_tokens[earlier, row]
            for earlier in range(1, stage)
        )

    def _gone_before(self, stage: int) -> bool:
        return self._known.rows[stage - 1].complete

    def _rank(self, stage: int, row: ScoreRow, score: float | None, kept: int) -> Rank | None:
        if score is None or not score > -np.inf:
            return None
        if self._token == self._columns.chosen[self._row]:
            return Rank(int(self._columns.chosen_rank[stage, self._row]), exact=True)
        value = 1 + int(np.count_nonzero(row.scores > score))
        if row.bound <= score:
            return Rank(value, exact=True)
        itself = int(not row.scores[self._token] > -np.inf)
        return Rank(value, exact=False, at_most=value + max(0, kept - row.kept - itself))

    def _verdict(self, chosen: int, stages: Sequence[TokenStage]) -> Verdict:
        if self._columns.finished[self._row]:
            return "padding"
        if self._token == chosen:
            return "chosen"
        final = stages[-1].score
        if final is None and not self._rivals() and self._ranking is None:
            return "unknown"
        return "removed" if final == -np.inf else self._left(chosen)

    def _left(self, chosen: int) -> Verdict:
        """What became of a token that no processor removed, and that was not chosen."""
        if chosen == NO_TOKEN:
            return "undecided"
        if self._header.rows_move:
            return "not continued"
        if self._ranking is not None:
            among = any(each.token == self._token for each in self._ranking.candidates)
            return "outranked" if among else "no candidate"
        return "lost the draw" if self._header.do_sample else "not the highest score"

    def _probability(self, stages: Sequence[TokenStage]) -> float | None:
        if self._place is not None:
            return float(self._columns.probabilities[self._row, self._place])
        if stages[-1].score == -np.inf:
            return 0.0
        final = self._known.rows[-1]
        return float(softmax(final.scores)[self._token]) if final.complete else None

    def _notes(self, stages: Sequence[TokenStage], verdict: Verdict) -> tuple[str, ...]:
        notes = list(self._known.notes)
        if stages[0].score is None:
            needed = CONTINUED_ALONE if self._continued_alone() else NEEDS_LOGITS
            notes.append(f"Without saved logits: {needed}.")
        elif stages[0].score == -np.inf and verdict != "removed":
            notes.append(FIRST_SCORES[self._header.loop].ruled_out)
        if self._step.head.interventions:
            done = ", ".join(f"{each.kind} {each.detail}" for each in self._step.head.interventions)
            notes.append(f"The user changed this step ({done}); the choice is not the model's own.")
        if any(self._token in row.doubtful for row in self._known.rows):
            notes.append("Whether this token stays is decided by rounding or between equal scores.")
        return tuple(notes)
