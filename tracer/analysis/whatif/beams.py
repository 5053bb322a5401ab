"""What a recorded beam search would have returned with other settings of how hypotheses are kept.

``length_penalty`` and ``early_stopping`` decide which hypotheses are kept and when a row of the batch is
done, and nothing else: continuations are chosen by their scores alone. So the hypotheses can be worked out
again from the recorded continuations, as far as the run went. Where it would have gone on, nothing is known.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tracer.analysis.runs import RecordedRun
from tracer.errors import UnsupportedError, UsageError
from tracer.schema.beams import BeamEnd, BeamOutcome, BeamRow, BeamStep, EarlyStopping, Hypothesis
from tracer.schema.run import RunHeader, RunStatus
from tracer.schema.step import Step


@dataclass(frozen=True)
class BeamSettings:
    """Changed settings of a beam search; None keeps a setting as it was recorded.

    Attributes:
        length_penalty: exponent of the length.
        early_stopping: when a row of the batch is done.
        num_return_sequences: how many hypotheses of each row are returned.
    """

    length_penalty: float | None = None
    early_stopping: EarlyStopping | None = None
    num_return_sequences: int | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """The changed settings by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True)
class BeamWhatIf:
    """A beam search under changed settings.

    Attributes:
        settings: the changed settings.
        length_penalty: the exponent of the length then.
        steps: steps that it would take; None where it would go on behind the recorded ones.
        rows: what each row of the batch would have; None where it would go on behind what is recorded of it.
        parts: for each row the last step that is recorded of it, where it would go on; else None.
        same: for each row, whether the hypothesis that wins is the recorded one; None where it is not known.
    """

    settings: BeamSettings
    length_penalty: float
    steps: int | None
    rows: tuple[BeamOutcome | None, ...]
    parts: tuple[int | None, ...]
    same: tuple[bool | None, ...]

    @property
    def exact(self) -> bool:
        """Whether everything is known, to the bit."""
        return None not in self.rows


def beam_whatif(run: RecordedRun, settings: BeamSettings) -> BeamWhatIf:
    """Work out the hypotheses of a recorded beam search with other settings.

    Args:
        run: the run.
        settings: the changed settings.

    Raises:
        UsageError: the run is no beam search, it did not come to its end, or the setting is not possible.
        UnsupportedError: its hypotheses cannot be worked out again.
    """
    end, steps = _recorded(run)
    recorded = _Rules.of(run, end, len(end.rows[0].returned))
    _require_order(recorded, end.rows)
    if _told(_replayed(recorded, steps)[0]) != _told(end.rows):
        raise UnsupportedError("The recorded hypotheses are not those that the recorded scores lead to.")
    changed = dataclasses.replace(recorded, **settings.changes)
    if not 1 <= changed.num_return_sequences <= end.beams:
        raise UsageError(f"num-return-sequences: from 1 to num_beams, which is {end.beams}")
    rows, parts, last = _replayed(changed, steps)
    _require_order(changed, rows)
    return BeamWhatIf(
        settings=settings,
        length_penalty=changed.length_penalty,
        steps=last,
        rows=rows,
        parts=parts,
        same=tuple(
            None if row is None else _returned(row)[:1] == _returned(before)[:1]
            for row, before in zip(rows, end.rows, strict=True)
        ),
    )


def _require_order(rules: _Rules, rows: Sequence[BeamOutcome | None]) -> None:
    """Without a scorer ``topk`` orders hypotheses: equal ones anyhow, and places without one as -1e9."""
    if rules.with_scorer:
        return
    for row in rows:
        values = [] if row is None else [each.value for each in row.hypotheses]
        if len({*values}) < len(values) or not all(_NO_HYPOTHESIS < each < math.inf for each in values):
            raise UnsupportedError(
                "Some hypotheses have equal values, or values that the library takes for none at all: in "
                "which order it would return them is not known."
            )


def _recorded(run: RecordedRun) -> tuple[BeamEnd, list[Step]]:
    """The end of a search, and its steps."""
    header, end, steps = run.header, run.end, [*run.steps]
    if header.loop != "_beam_search":
        if header.rows_move:
            raise UsageError("What other settings would have kept is known of plain beam search alone.")
        raise UsageError(
            "Length penalty, early stopping and the number of sequences are settings of beam search."
        )
    if end is None or end.status is not RunStatus.COMPLETE or end.beams is None:
        raise UsageError("The beam search did not come to its end, so that its hypotheses are not known.")
    if any(step.head.beams is None for step in steps):
        raise UsageError("What the beam search decided was not recorded in every step.")
    _require_known_criteria(header)
    return end.beams, steps


def _require_known_criteria(header: RunHeader) -> None:
    """With a scorer all rows are asked for, also those that are done and filled up."""
    names = [each.class_name for each in header.criteria if each.class_name not in _KNOWN_CRITERIA]
    if names and not header.one_list:
        raise UnsupportedError(
            f"What {names[0]} says of rows that are done at another time is not known, so that the end of "
            "the search is not either."
        )


_KNOWN_CRITERIA = ("MaxLengthCriteria", "MaxTimeCriteria", "EosTokenCriteria")
"""Stopping criteria whose common answer does not depend on rows that are done and filled up."""


def _returned(row: BeamOutcome) -> list[tuple[int, int, int | None]]:
    """The hypotheses returned, best first, each by the step, row and token that it ended with."""
    found = (row.hypotheses[number] for number in row.returned)
    return [(each.step, each.row, each.token) for each in found]


def _told(rows: Sequence[BeamOutcome | None]) -> list[tuple[list[tuple[int, int, int | None]], int]]:
    """What a replay with the recorded settings has to come to."""
    return [(_returned(row), len(row.kept)) for row in rows if row is not None]


@dataclass(frozen=True)
class _Rules:
    """The settings of a search, and what decides besides.

    Attributes:
        beams: beams of each row.
        length_penalty: exponent of the length.
        early_stopping: when a row is done.
        num_return_sequences: how many are returned.
        max_length: longest sequence without its prompt.
        with_scorer: whether a beam scorer keeps the hypotheses; else tensors in single precision do.
    """

    beams: int
    length_penalty: float
    early_stopping: EarlyStopping
    num_return_sequences: int
    max_length: int
    with_scorer: bool

    @staticmethod
    def of(run: RecordedRun, end: BeamEnd, returned: int) -> _Rules:
        """The rules of a recorded run."""
        return _Rules(
            beams=end.beams,
            length_penalty=end.length_penalty,
            early_stopping=end.early_stopping,
            num_return_sequences=returned,
            max_length=(run.header.max_length or 0) - len(run.header.prompt[0].token_ids),
            with_scorer=not run.header.one_list,
        )

    def value(self, total: float, length: int) -> float:
        """The value of a sequence, in the precision of the library."""
        try:
            divisor = float(length**self.length_penalty)
        except OverflowError:
            raise UsageError(
                f"length-penalty {self.length_penalty:g}: too large for a sequence of {length} tokens"
            ) from None
        with np.errstate(over="ignore", divide="ignore"):
            # Python raises where the library's own division does, too.
            return total / divisor if self.with_scorer else float(np.float32(total) / np.float32(divisor))

    def attainable(self, total: float, length: int) -> float:
        """The best value that a beam is taken to come to."""
        longest = self.early_stopping == "never" and self.length_penalty > 0
        return self.value(total, self.max_length if longest else length)


@dataclass
class _Row:
    """The hypotheses of a row of the batch while its steps are worked out again.

    Attributes:
        all: every one that was ever kept.
        kept: those that are.
        done: whether it takes no further one.
        parted: the last step that is recorded of it, where it would go on.
    """

    all: list[Hypothesis] = field(default_factory=list)
    kept: list[Hypothesis] = field(default_factory=list)
    done: bool = False
    parted: int | None = None

    def add(self, rules: _Rules, hypothesis: Hypothesis) -> None:
        """A sequence ends; it is kept if it is better than the worst one."""
        if len(self.kept) >= rules.beams:
            worst = min(self.kept, key=lambda each: each.value)
            if not hypothesis.value > worst.value:
                return
            self.kept.remove(worst)
        new = hypothesis.model_copy(update={"number": len(self.all)})
        self.all.append(new)
        self.kept.append(new)

    def outcome(self, rules: _Rules) -> BeamOutcome | None:
        """What it has in the end; None where that is not known."""
        if self.parted is not None:
            return None
        best = sorted(self.kept, key=lambda each: each.value)[::-1]
        return BeamOutcome(
            hypotheses=tuple(self.all),
            kept=tuple(each.number for each in self.kept),
            returned=tuple(each.number for each in best[: rules.num_return_sequences]),
        )


def _replayed(
    rules: _Rules, steps: Sequence[Step]
) -> tuple[tuple[BeamOutcome | None, ...], tuple[int | None, ...], int | None]:
    """What each row comes to, where it parts from the recorded run, and the last step, if it is recorded."""
    first = steps[0].head.beams
    assert first is not None
    rows = [_Row() for _ in first.rows]
    last = (_by_scorer if rules.with_scorer else _by_tensors)(rules, steps, rows)
    return tuple(row.outcome(rules) for row in rows), tuple(row.parted for row in rows), last


def _by_scorer(rules: _Rules, steps: Sequence[Step], rows: Sequence[_Row]) -> int | None:
    """As ``BeamSearchScorer`` keeps hypotheses: a row that is done is filled up."""
    for step in steps:
        for row, found in zip(rows, _beams(step).rows, strict=True):
            if not row.done and row.parted is None:
                _scorer_step(rules, row, found, step.number)
        if all(row.done for row in rows):
            return step.number
    _end_open(rules, steps[-1], rows)
    return None if any(row.parted is not None for row in rows) else steps[-1].number


def _scorer_step(rules: _Rules, row: _Row, found: BeamRow, step: int) -> None:
    if not found.continuations:  # it was done in the run, and nothing is known of what it would have
        row.parted = step - 1
        return
    _add_ended(rules, row, found, step)
    if len(row.kept) >= rules.beams:
        best = max(each.score for each in found.continuations)
        worst = min(each.value for each in row.kept)
        row.done = rules.early_stopping == "True" or worst >= rules.attainable(best, step)


def _end_open(rules: _Rules, step: Step, rows: Sequence[_Row]) -> None:
    """The recorded run is over, by a stopping criterion or since all its rows were done."""
    fired = {row for answer in step.head.criteria for row in answer.fired}
    over = step.number >= rules.max_length or len(fired) == step.rows
    scores = _beams(step).scores
    for place, row in enumerate(rows):
        if row.done or row.parted is not None:
            continue
        if not over:
            row.parted = step.number
            continue
        for beam in range(place * rules.beams, (place + 1) * rules.beams):
            row.add(rules, _hypothesis(rules, step.number, beam, None, scores[beam]))


def _by_tensors(rules: _Rules, steps: Sequence[Step], rows: Sequence[_Row]) -> int | None:
    """As newer releases do: a row that is done goes on until all are, and keeps nothing more."""
    for step in steps:
        beams = _beams(step)
        for place, (row, found) in enumerate(zip(rows, beams.rows, strict=True)):
            if not row.done:
                _tensor_step(rules, row, found, step.number, beams.scores[place * rules.beams])
        if all(row.done for row in rows) or _all_ended(beams):
            return step.number
    for row in rows:
        row.parted = None if row.done else steps[-1].number
    return None


def _tensor_step(rules: _Rules, row: _Row, found: BeamRow, step: int, best: float) -> None:
    _add_ended(rules, row, found, step)
    full = len(row.kept) >= rules.beams
    worst = min(each.value for each in row.kept) if full else _NO_HYPOTHESIS
    row.done = (rules.early_stopping == "True" and full) or not rules.attainable(best, step) > worst


def _all_ended(beams: BeamStep) -> bool:
    return all(each.fate not in ("beam", "cut") for row in beams.rows for each in row.continuations)


_NO_HYPOTHESIS = -1e9
"""Value of a place that no hypothesis has taken."""


def _beams(step: Step) -> BeamStep:
    assert step.head.beams is not None
    return step.head.beams


def _add_ended(rules: _Rules, row: _Row, found: BeamRow, step: int) -> None:
    """The continuations that may end do, in their order."""
    for each in found.continuations[: rules.beams]:
        if each.fate in ("hypothesis", "rejected", "closed") and not math.isnan(each.score):
            row.add(rules, _hypothesis(rules, step, each.parent, each.token, each.score))


def _hypothesis(rules: _Rules, step: int, row: int, token: int | None, total: float) -> Hypothesis:
    value = rules.value(total, step)
    return Hypothesis(number=0, step=step, row=row, token=token, total=total, length=step, value=value)
