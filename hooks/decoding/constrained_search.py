"""Constrained beam search: how far each beam has met its constraints, and what goes on for advancing one.

The scorer makes states of its constraints for the sequences of a step. They are noted while it decides:
nothing is asked of a constraint that the scorer does not ask itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from hooks.caught_step import CaughtStep, Checked, LoopRecord
from hooks.decoding.beam_book import Book
from hooks.decoding.beam_search import BeamWatch, WatchedScorer
from hooks.decoding.caught_beams import CaughtBeams
from hooks.decoding.constraint_rules import ConstraintStates
from hooks.decoding.constraint_states import (
    Candidate,
    SentenceAdvances,
    bank_of,
    constraint_record,
    progress,
)
from hooks.patches import Patches
from tracer.schema.beams import BeamStep, ConstraintProgress, ConstraintStep
from tracer.schema.checks import Check, Violation


class ConstrainedWatch(BeamWatch):
    """Follows the beams and constraints of one run.

    Args:
        arguments: of ``_constrained_beam_search``; its ``constrained_beam_scorer`` is replaced.
        keep_logits: whether something asks for the model's own logits.
    """

    def __init__(self, arguments: dict[str, Any], *, keep_logits: bool) -> None:
        self.asked = Asked()
        self._wanted = [*arguments["constrained_beam_scorer"].constraints]
        self._constraints = tuple(map(constraint_record, self._wanted))
        self._states = ConstraintStates(self._constraints)
        self._final: list[list[int]] = []
        super().__init__(arguments, keep_logits=keep_logits, scorer="constrained_beam_scorer")

    def stand_in(self, scorer: Any) -> WatchedScorer:
        """What the loop is given in place of its scorer.

        Args:
            scorer: the scorer.
        """
        return _Watched(scorer, self, self._wanted)

    def advances(self, row: int) -> SentenceAdvances | None:
        """What the scorer found out of its constraints for a row of the batch; None if it was done.

        Args:
            row: the row of the batch.

        Raises:
            LookupError: it was not done, and what it found out is not known.
        """
        found = self.asked.rows.get(row)
        if found is None and not self._books[row].done:
            raise LookupError(f"what the scorer asks of its constraints for batch row {row} was not seen")
        return found

    def caught(self, record: BeamStep, tokens: tuple[int, ...], same: tuple[bool, ...]) -> CaughtBeams:
        """What was decided in a step, with the constraints.

        Args:
            record: the record of it.
            tokens: the token of each row after the step.
            same: for each row of the batch, whether the rules lead to the same.
        """
        beams = record.beams
        advancing: list[tuple[int, ...]] = []
        reached: list[tuple[ConstraintProgress, ...]] = []
        holds: list[bool] = []
        as_ruled: list[bool | None] = []
        self._states.next_step()
        for row, found in enumerate(record.rows):
            asked = self.asked.rows.get(row)
            advancing += [()] * beams if asked is None else asked.advancing
            reached += [()] * beams if asked is None else asked.reached
            holds.append(asked is None or asked.holds(found.continuations, row * beams))
            unknown = self._states.unknown is not None
            as_ruled += [None] * beams if asked is None or unknown else asked.as_ruled(self._states)
        constraints = ConstraintStep(
            constraints=self._constraints, advancing=tuple(advancing), progress=tuple(reached)
        )
        return CaughtConstrained(
            record.model_copy(update={"constraints": constraints}),
            tokens,
            tuple(one and other for one, other in zip(same, holds, strict=True)),
            tuple(as_ruled),
            self._states.unknown,
        )

    def finalized(self, given: Mapping[str, Any], returned: int) -> None:
        """The scorer has chosen the hypotheses to return.

        Args:
            given: the arguments of ``finalize``.
            returned: how many of each row.
        """
        self._final = given["input_ids"].tolist()
        super().finalized(given, returned)

    def close(self, book: Book, open_beams: Mapping[int, float], length: int) -> None:
        """Beams that were open when the run ended become hypotheses, if they meet their constraints.

        Where these are fewer than are to be returned, so do the others.

        Args:
            book: their book.
            open_beams: their scores, by the row that each is.
            length: number of tokens that the length penalty counts.
        """
        met = {row for row in open_beams if self._is_met(row)}
        book.add_open(self._rules, self._step, open_beams, length, met=met, returned=self.wanted)

    def _is_met(self, row: int) -> bool:
        """Whether an open beam meets its constraints: as the scorer says where their rules are not known."""
        told = self.asked.met.pop(0)
        return told if self._states.unknown is not None else self._states.of(self._final[row]).complete


@dataclass(frozen=True)
class CaughtConstrained(CaughtBeams):
    """What the scorer decided in a step, with the check of its constraints.

    Attributes:
        as_ruled: for each row before the step, whether the states that the scorer made of its constraints are
            those that its ids lead to; None where its batch row was done, and where that is not known.
        unknown: class of a constraint whose rules are not known; None where there is none.
    """

    as_ruled: tuple[bool | None, ...]
    unknown: str | None

    def describe(self, step: CaughtStep) -> LoopRecord:
        """The record, and whether the beams and the constraints are those that the rules lead to.

        Args:
            step: the step.
        """
        found = super().describe(step)
        return replace(found, checks=(*found.checks, self._constraints()))

    def _constraints(self) -> Checked:
        total = len(self.as_ruled)
        if self.unknown is not None:
            reason = f"a constraint is of a class of one's own ({self.unknown}), whose rules are not known"
            return Check.not_made("constraints", reason, total=total), ()
        wrong = [row for row, holds in enumerate(self.as_ruled) if holds is False]
        check = Check.made(
            "constraints", holds=not wrong, checked=total - self.as_ruled.count(None), total=total
        )
        return check, tuple(
            Violation(
                check="constraints",
                message="the scorer's states of the constraints are not those that the ids lead to",
                row=row,
            )
            for row in wrong
        )


class Asked:
    """What a scorer has asked its constraints, and found out, in one call.

    Attributes:
        rows: what concerns a row of the batch, by its number; none of one that was done.
        met: whether sequences meet their constraints, as they were asked; those of the row in progress.
    """

    def __init__(self) -> None:
        self.rows: dict[int, SentenceAdvances] = {}
        self.met: list[bool] = []


class _Watched(WatchedScorer):
    """A stand-in for a scorer with constraints, whose own methods are watched while it decides.

    Args:
        scorer: the scorer.
        watch: told what it decides.
        wanted: its constraints.
    """

    def __init__(self, scorer: Any, watch: ConstrainedWatch, wanted: Sequence[Any]) -> None:
        super().__init__(scorer, watch)
        self._constrained = watch
        self._wanted = wanted
        self._sentence: _Sentence | None = None

    def process(self, *args: Any, **kwargs: Any) -> Any:
        """As the scorer's own."""
        return self._noted(super().process, args, kwargs)

    def finalize(self, *args: Any, **kwargs: Any) -> Any:
        """As the scorer's own."""
        return self._noted(super().finalize, args, kwargs)

    def _noted(self, call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call it with the scorer's own methods watched."""
        self._constrained.asked = Asked()
        patches, scorer = Patches(), self.own_scorer
        patches.set(scorer, "check_completes_constraints", self._check(scorer.check_completes_constraints))
        patches.set(scorer, "make_constraint_states", self._make(scorer.make_constraint_states))
        patches.set(scorer, "step_sentence_constraint", self._step(scorer.step_sentence_constraint))
        try:
            return call(*args, **kwargs)
        finally:
            patches.undo()

    def _check(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def seen(*args: Any, **kwargs: Any) -> Any:
            met = original(*args, **kwargs)
            self._constrained.asked.met.append(bool(met))
            return met

        return seen

    def _make(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def seen(*args: Any, **kwargs: Any) -> Any:
            states = original(*args, **kwargs)
            sentence = self._sentence
            if sentence is not None:
                self.guarded(lambda: sentence.made(states))
            return states

        return seen

    def _step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def seen(*args: Any) -> Any:
            asked = self._constrained.asked
            sentence = self._sentence = _Sentence(self.guarded)
            try:
                result = original(*args)
            finally:
                self._sentence = None
                sentence.patches.undo()
            met, asked.met = asked.met, []
            found = self.guarded(lambda: sentence.read(args, met, self._wanted))
            if found is not None:
                asked.rows[args[0]] = found
            return result

        return seen


class _Sentence:
    """The states that a scorer makes for one row of the batch, and what they answer.

    Args:
        guarded: runs what is ours, so that a fault of it is a capture error.

    Attributes:
        patches: what watches the states.
    """

    def __init__(self, guarded: Callable[[Callable[[], Any]], Any]) -> None:
        self.patches = Patches()
        self._guarded = guarded
        self._made: list[list[Any]] = []
        self._advancing: dict[int, tuple[int, ...]] = {}
        self._added: list[_Added] = []
        self._banks: dict[int, int] = {}

    def made(self, states: list[Any]) -> None:
        """States were made: first those of the best sequences, then those of the beams as they are.

        Args:
            states: one for each beam.
        """
        self._made.append(states)
        for beam, state in enumerate(states):
            self._note_bank(state)
            if len(self._made) == 2:
                self.patches.set(state, "advance", self._advance(beam, state.advance))
                self.patches.set(state, "copy", self._copy(beam, state.copy))

    def _note_bank(self, state: Any) -> None:
        original = state.get_bank

        def seen() -> Any:
            bank = original()
            self._banks[id(state)] = bank
            return bank

        self.patches.set(state, "get_bank", seen)

    def _advance(self, beam: int, original: Callable[..., Any]) -> Callable[..., Any]:
        def seen() -> Any:
            tokens = original()
            self._guarded(lambda: self._advancing.update({beam: tuple(map(int, tokens or ()))}))
            return tokens

        return seen

    def _copy(self, beam: int, original: Callable[..., Any]) -> Callable[..., Any]:
        def seen(*args: Any, **kwargs: Any) -> Any:
            state = original(*args, **kwargs)
            self._guarded(lambda: self._note_added(_Added(beam, state)))
            return state

        return seen

    def _note_added(self, added: _Added) -> None:
        self._added.append(added)
        self._note_bank(added.state)
        original = added.state.add

        def seen(token: int) -> Any:
            added.token = token
            return original(token)

        self.patches.set(added.state, "add", seen)

    def read(self, args: Sequence[Any], met: list[bool], wanted: Sequence[Any]) -> SentenceAdvances:
        """What the scorer found out.

        Args:
            args: of ``step_sentence_constraint``.
            met: whether the sequences that ended meet their constraints.
            wanted: the constraints.
        """
        row, ids, scores, best_scores, best_tokens, best_rows = args[:6]
        best_states, beam_states = self._made
        first = row * len(beam_states)
        # A sequence that is among the best already is not added, and the scorer asks for no bank of it.
        added = [each for each in self._added if id(each.state) in self._banks]
        places = torch.tensor([[first + each.beam for each in added], [each.token for each in added]])
        rows, tokens = places.long().to(scores.device)
        figures = [
            *zip(best_rows.tolist(), best_tokens.tolist(), best_scores.tolist(), strict=True),
            *zip(rows.tolist(), tokens.tolist(), scores[rows, tokens].tolist(), strict=True),
        ]
        states = [*best_states, *(each.state for each in added)]
        candidates = [
            Candidate(
                beam=parent - first,
                token=token,
                score=score,
                progress=progress(state, wanted),
                bank=bank_of(state),
                asked=self._banks.get(id(state)),
            )
            for (parent, token, score), state in zip(figures, states, strict=True)
        ]
        return SentenceAdvances(
            met=met,
            whole=[bool(state.completed) for state in beam_states],
            best=candidates[: len(best_states)],
            added=candidates[len(best_states) :],
            advancing=[self._advancing.get(beam, ()) for beam in range(len(beam_states))],
            ids=[*map(tuple, ids[first : first + len(beam_states)].tolist())],
            dtype=torch.promote_types(best_scores.dtype, scores.dtype),
        )


class _Added:
    """A state of a beam with one of the tokens that advance it.

    Args:
        beam: the beam, from 0.
        state: the state.

    Attributes:
        token: the token, once it was added.
    """

    def __init__(self, beam: int, state: Any) -> None:
        self.beam = beam
        self.state = state
        self.token = -1
