"""The rules of a beam search without a scorer: what became of each continuation, and whether it had to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hooks.decoding.beam_readings import OUT, Booleans, Decided, Floats
from tracer.analysis.hypotheses import Rules
from tracer.schema.beams import BeamOutcome, BeamRow, BeamStep, Continuation, Fate, Hypothesis
from tracer.schema.columns import NO_TOKEN


@dataclass(frozen=True)
class Ledger:
    """The hypotheses of one row of the batch.

    Attributes:
        all: every one that was ever kept.
        kept: those that are, best first.
    """

    all: tuple[Hypothesis, ...] = ()
    kept: tuple[Hypothesis, ...] = ()

    def after(self, decided: Decided, row: int) -> Ledger:
        """The ledger after a step.

        Args:
            decided: what the loop decided in it.
            row: row of the batch.
        """
        known = {_key(each): each for each in self.kept}
        new, kept = list[Hypothesis](), list[Hypothesis]()
        for place in np.flatnonzero(decided.kept_finished[row]).tolist():
            key = tuple(
                int(each[row, place])
                for each in (decided.kept_lengths, decided.kept_parents, decided.kept_tokens)
            )
            found = known.get(key)
            if found is None:
                found = self._new(decided, row, place, len(self.all) + len(new))
                new.append(found)
            kept.append(found)
        return Ledger((*self.all, *new), tuple(kept))

    def _new(self, decided: Decided, row: int, place: int, number: int) -> Hypothesis:
        parent, token = int(decided.kept_parents[row, place]), int(decided.kept_tokens[row, place])
        length, chosen = int(decided.kept_lengths[row, place]), decided.place(row, parent, token)
        value = float(decided.kept_values[row, place])
        return Hypothesis(
            number=number,
            step=length,
            row=parent,
            token=token,
            total=value if chosen is None else float(decided.scores[row, chosen]),
            length=length,
            value=value,
        )

    def with_open(self, decided: Decided, row: int) -> Ledger:
        """The ledger where the run ends behind a step, and the beams that are open end with it.

        Args:
            decided: what was decided in the step, with the hypotheses that are kept then.
            row: row of the batch.
        """
        ledger, beams = self.after(decided, row), [*zip(*decided.beams_of(row), strict=True)]
        new = {
            each: each.model_copy(
                update={"token": None, "row": row * decided.beams + beams.index(_beam(each))}
            )
            for each in ledger.all[len(self.all) :]
        }
        return Ledger(*(tuple(new.get(each, each) for each in found) for found in (ledger.all, ledger.kept)))

    def outcome(self, returned: int) -> BeamOutcome:
        """What the row has in the end.

        Args:
            returned: how many hypotheses ``generate()`` returns.
        """
        numbers = tuple(each.number for each in self.kept)
        return BeamOutcome(hypotheses=self.all, kept=numbers, returned=numbers[:returned])


def _key(each: Hypothesis) -> tuple[int, ...]:
    return (each.step, *_beam(each))


def _beam(each: Hypothesis) -> tuple[int, int]:
    """The row that it continues, and its last token."""
    return each.row, NO_TOKEN if each.token is None else each.token


@dataclass(frozen=True)
class RowRules:
    """One row of the batch in one step.

    Attributes:
        rules: the settings of the search.
        decided: what the loop decided in the step.
        row: row of the batch.
        before: its hypotheses before the step.
        after: the same after it.
        places: place of each of its beams after the step among the continuations.
    """

    rules: Rules
    decided: Decided
    row: int
    before: Ledger
    after: Ledger
    places: Sequence[int | None]

    @property
    def closed(self) -> bool:
        """Whether the row took no hypothesis any more."""
        full = self.rules.early_stopping is True and bool(self.decided.finished_before[self.row].all())
        return full or not self.decided.improvable_before[self.row].all()

    @property
    def done(self) -> bool:
        """Whether it takes none after the step."""
        decided, row = self.decided, self.row
        full = self.rules.early_stopping is True and bool(decided.kept_finished[row].all())
        improvable = decided.improvable_before if decided.improvable is None else decided.improvable
        return full or not improvable[row].all()

    @property
    def attainable(self) -> float:
        """The best value that a beam is taken to come to, by ``_check_early_stop_heuristic``."""
        longest = self.rules.early_stopping == "never" and self.rules.length_penalty > 0
        length = (self.rules.max_length or 0) - self.decided.prompt if longest else self.decided.generated
        return float(self._value(self.decided.next_scores[self.row, 0], length))

    def record(self, log_probabilities: Sequence[float | None]) -> BeamRow:
        """The record of the row.

        Args:
            log_probabilities: of its continuations' tokens.
        """
        decided, kept = self.decided, self.after.kept
        asked = decided.improvable is not None and self.rules.early_stopping is not True and not self.closed
        return BeamRow(
            continuations=tuple(self._continuation(*each) for each in enumerate(log_probabilities)),
            ended=self._new,
            pushed_out=tuple(each.number for each in self.before.kept if each not in kept),
            kept=len(kept),
            worst=min((each.value for each in kept), default=None),
            attainable=self.attainable if asked and len(kept) == decided.beams else None,
            done=self.done,
        )

    def holds(self) -> bool:
        """Whether the loop has decided as its rules say."""
        return self._chosen_as_ruled() and self._going_on_as_ruled() and self._kept_as_ruled()

    @cached_property
    def _new(self) -> tuple[Hypothesis, ...]:
        return self.after.all[len(self.before.all) :]

    def _continuation(self, place: int, log_probability: float | None) -> Continuation:
        decided, row = self.decided, self.row
        parent = int(decided.parents[row, place])
        return Continuation(
            parent=parent,
            token=int(decided.tokens[row, place]),
            before=float(decided.before[row, parent - row * decided.beams]),
            log_probability=log_probability,
            score=float(decided.scores[row, place]),
            fate=self._fate(place),
            row=row * decided.beams + self.places.index(place) if place in self.places else None,
            criteria=tuple(number for number, found in decided.criteria.items() if found[row, place]),
        )

    def _fate(self, place: int) -> Fate:
        if not self.decided.ended[self.row, place]:
            return "beam" if place in self.places else "cut"
        if place >= self.decided.beams:
            return "too late"
        if any(self.decided.place(self.row, *_beam(each)) == place for each in self._new):
            return "hypothesis"
        return "closed" if self.closed else "rejected"

    def _chosen_as_ruled(self) -> bool:
        """The best ones were chosen, or those drawn are different ones."""
        decided, row = self.decided, self.row
        found = {*zip(decided.parents[row].tolist(), decided.tokens[row].tolist(), strict=True)}
        if len(found) < len(decided.scores[row]):
            return False
        if decided.better is None:
            return True
        return int(decided.better[row]) < len(found) and _falls(decided.scores[row])

    def _going_on_as_ruled(self) -> bool:
        """The best ones that have not ended go on."""
        decided, row = self.decided, self.row
        if None in self.places or len({*self.places}) < len(self.places):
            return False
        scores = decided.scores[row] + decided.ended[row].astype(np.float32) * np.float32(OUT)
        own = scores[np.array(self.places, dtype=np.int64)]
        return _same(decided.next_scores[row], own) and _same(own, _best(scores, decided.beams))

    def _kept_as_ruled(self) -> bool:
        """The best hypotheses are kept, and the row is done when none that is better can come."""
        decided, row = self.decided, self.row
        values = self._value(decided.scores[row], decided.generated)
        may_end = decided.ended[row] & (np.arange(len(values)) < decided.beams)
        values = values + np.where(may_end & (not self.closed), 0, OUT)
        merged = np.concatenate([decided.values_before[row], values]).astype(np.float32)
        fates = [self._fate(place) for place in range(decided.scores.shape[1])]
        return (
            _same(decided.kept_values[row], _best(merged, decided.beams))
            and fates.count("hypothesis") == len(self._new)
            and all(each.step == decided.generated for each in self._new)
            and self._ends_as_ruled()
        )

    def _ends_as_ruled(self) -> bool:
        decided, row = self.decided, self.row
        if decided.improvable is None:
            return True
        worst = np.where(decided.kept_finished[row], decided.kept_values[row].min(), OUT).min()
        near = bool(np.isclose(self.attainable, worst, rtol=_ROUNDING, atol=0))
        ruled = bool(decided.improvable_before[row].all()) and self.attainable > float(worst)
        return near or ruled == bool(decided.improvable[row].all())

    def _value(self, total: Any, length: int) -> Any:
        with np.errstate(over="ignore"):  # as the library has it, which divides by infinity then
            return total / np.float32(float(length**self.rules.length_penalty))


_ROUNDING = 1e-6
"""Relative difference of what two devices compute in single precision."""


def _falls(values: Floats) -> bool:
    return not bool((values[1:] > values[:-1]).any())


def _same(one: Floats, other: Floats) -> bool:
    return bool(np.allclose(one, other, rtol=_ROUNDING, atol=0, equal_nan=True))


def _best(values: Floats, count: int) -> Floats:
    """The best values, as ``topk`` takes them, for which NaN is the largest."""
    return np.sort(values)[::-1][:count]


def rows_of(rules: Rules, decided: Decided, before: Sequence[Ledger]) -> tuple[RowRules, ...]:
    """The rows of the batch in a step.

    Args:
        rules: the settings of the search.
        decided: what the loop decided.
        before: the hypotheses of each row before the step; none before the first.
    """
    return tuple(
        RowRules(rules, decided, row, ledger, ledger.after(decided, row), places)
        for row, (places, ledger) in enumerate(
            zip(decided.places(), before or [Ledger()] * len(decided.scores), strict=True)
        )
    )


def step_record(rows: Sequence[RowRules], log_probabilities: Floats | None) -> BeamStep:
    """The record of a step.

    Args:
        rows: the rows of the batch.
        log_probabilities: of all continuations, flat; None where they were not recorded.
    """
    decided = rows[0].decided
    shape = decided.scores.shape
    missing: list[list[float | None]] = [[None] * shape[1] for _ in rows]
    own: Any = missing if log_probabilities is None else log_probabilities.reshape(shape).tolist()
    return BeamStep(
        beams=decided.beams,
        rows=tuple(row.record(found) for row, found in zip(rows, own, strict=True)),
        parents=tuple(decided.next_parents.ravel().tolist()),
        before=tuple(decided.before.ravel().tolist()),
        scores=tuple(decided.next_scores.ravel().tolist()),
    )


def goes_on_as_ruled(rows: Sequence[RowRules]) -> bool:
    """Whether there is another step where there has to be one.

    Args:
        rows: the rows of the batch.
    """
    decided = rows[0].decided
    if decided.improvable is None or decided.unfinished is None:
        return True
    full = rows[0].rules.early_stopping is True and bool(decided.kept_finished.all())
    ruled = bool(decided.improvable.any()) and not full and not decided.ended.all()
    return ruled == bool(decided.unfinished)


def fired(decided: Decided, answers: Booleans) -> list[bool]:
    """The answers about the continuations that the rows after the step are.

    Args:
        decided: what the loop decided.
        answers: ``[batch, continuations]``.
    """
    return [
        place is not None and bool(answers[row, place])
        for row, places in enumerate(decided.places())
        for place in places
    ]
