"""What a constrained beam search finds out about its constraints, read from the states that it makes itself.

A constraint may be somebody's own: none of its methods is called here. What the library asks it is noted,
and the attributes of the library's own two classes are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch

from hooks.decoding.constraint_rules import ConstraintState, ConstraintStates
from hooks.printing import printed
from tracer.schema.beams import Constraint, ConstraintProgress, ConstraintStatus, Continuation


def constraint_record(constraint: Any) -> Constraint:
    """The record of a constraint.

    Args:
        constraint: of a class of the library, or of one's own.
    """
    return Constraint(name=printed(type(constraint).__name__), words=_words(constraint))


def constraints_text(constraints: Sequence[Any]) -> str:
    """Constraints as a setting: class and tokens, where the text of the object itself would hold an address.

    Args:
        constraints: the constraints.
    """
    texts = (
        f"{type(each).__name__}({each.token_ids})" if _kind(each) else type(each).__name__
        for each in constraints
    )
    return f"[{', '.join(texts)}]"


def _kind(constraint: Any) -> str:
    """The class of a constraint of the library; empty for any other."""
    kind = type(constraint)
    known = kind.__module__ == "transformers.generation.beam_constraints" and kind.__name__ in _LIBRARY
    return kind.__name__ if known else ""


_LIBRARY = ("PhrasalConstraint", "DisjunctiveConstraint")


def _words(constraint: Any) -> tuple[tuple[int, ...], ...]:
    kind = _kind(constraint)
    if not kind:
        return ()
    words = constraint.token_ids if kind == "DisjunctiveConstraint" else [constraint.token_ids]
    return tuple(map(tuple, words))


def progress(state: Any, wanted: Sequence[Any]) -> tuple[ConstraintProgress, ...]:
    """How far a sequence has come with each constraint.

    Args:
        state: a ``ConstraintListState``.
        wanted: the constraints of the run, in order.
    """
    left = [*range(len(wanted))]
    found = []
    begun = state.inprogress_constraint
    for status, constraint in _by_status(state):
        number = next((each for each in left if _same(wanted[each], constraint)), left[0])
        left.remove(number)
        advances = status == "in progress" or (status == "open" and begun is None)
        found.append(
            ConstraintProgress(
                constraint=number,
                status=status,
                so_far=_so_far(constraint) if status != "open" else (),
                next=_next(constraint) if advances else (),
            )
        )
    return tuple(sorted(found, key=lambda each: each.constraint))


def _by_status(state: Any) -> Iterator[tuple[ConstraintStatus, Any]]:
    for each in state.complete_constraints:
        yield "met", each
    if state.inprogress_constraint is not None:
        yield "in progress", state.inprogress_constraint
    for each in state.pending_constraints:
        yield "open", each


def _same(wanted: Any, copy: Any) -> bool:
    """Whether one may be a copy of the other; of equal ones it does not matter which."""
    return type(wanted) is type(copy) and _words(wanted) == _words(copy)


def _so_far(constraint: Any) -> tuple[int, ...]:
    kind = _kind(constraint)
    if kind == "PhrasalConstraint":
        return tuple(constraint.token_ids[: constraint.fulfilled_idx + 1])
    return tuple(constraint.current_seq) if kind else ()


def _next(constraint: Any) -> tuple[int, ...]:
    kind = _kind(constraint)
    if kind == "PhrasalConstraint":
        return tuple(constraint.token_ids[constraint.fulfilled_idx + 1 :][:1])
    return tuple(constraint.trie.next_tokens(constraint.current_seq)) if kind else ()


def bank_of(state: Any) -> int | None:
    """How far a sequence has met its constraints in tokens, as ``get_bank`` counts them.

    Args:
        state: a ``ConstraintListState``.

    Returns:
        The longest constraint's tokens for each that is met, and the tokens of the one in progress less than
        that length by what remains of it; None where that one is somebody's own.
    """
    whole = len(state.complete_constraints) * state.max_seqlen
    begun = state.inprogress_constraint
    if begun is None:
        return int(whole)
    if not _kind(begun):
        return None
    return int(whole + state.max_seqlen - _remaining(begun))


def _remaining(constraint: Any) -> int:
    if constraint.completed:
        return 0
    return int(constraint.seqlen - len(_so_far(constraint)))


@dataclass(frozen=True)
class Candidate:
    """A sequence of a row of the batch that may go on.

    Attributes:
        beam: the beam of the row that it continues, from 0.
        token: the token.
        score: its score.
        progress: how far it has come with each constraint.
        bank: how far it has met them in tokens; None where that is not known.
        asked: the same as the scorer asked for it; None where it did not ask.
    """

    beam: int
    token: int
    score: float
    progress: tuple[ConstraintProgress, ...]
    bank: int | None
    asked: int | None


@dataclass
class SentenceAdvances:
    """What the scorer found out about one row of the batch in a step.

    Attributes:
        met: whether each continuation that ended meets its constraints, where the scorer asked.
        whole: for each beam, whether it meets all constraints.
        best: the sequences that would go on without constraints, in order.
        added: those that are there for advancing a constraint.
        advancing: for each beam, the tokens that would advance it.
        ids: for each beam, its ids before the step.
        dtype: of the scores.
        going_on: places of the candidates that go on, in the order of their rows.
    """

    met: list[bool] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    best: list[Candidate] = field(default_factory=list)
    added: list[Candidate] = field(default_factory=list)
    advancing: list[tuple[int, ...]] = field(default_factory=list)
    ids: list[tuple[int, ...]] = field(default_factory=list)
    dtype: torch.dtype = torch.float32
    going_on: list[int] = field(default_factory=list)

    @property
    def candidates(self) -> list[Candidate]:
        """All sequences that may go on."""
        return [*self.best, *self.added]

    @property
    def reached(self) -> list[tuple[ConstraintProgress, ...]]:
        """How far each beam has come after the step."""
        return [self.candidates[place].progress for place in self.going_on]

    def holds(self, found: Sequence[Continuation], first: int) -> bool:
        """Whether the scorer's answers are those of the states that it made.

        Args:
            found: the continuations of the row.
            first: the first row of the step that is one of these beams.
        """
        ended = [self.whole[each.parent - first] for each in found if each.fate in _ASKED]
        banks = all(each.bank is None or each.asked in (None, each.bank) for each in self.candidates)
        return banks and ended == self.met

    def as_ruled(self, states: ConstraintStates) -> list[bool]:
        """For each beam, whether the states that the scorer made for it are those that the ids lead to.

        Args:
            states: the states of sequences.
        """
        before = [states.of(ids) for ids in self.ids]
        wrong = {
            beam
            for beam, state in enumerate(before)
            if (state.complete, state.advancing()) != (self.whole[beam], self.advancing[beam])
        }
        wrong |= {
            each.beam
            for each in self.best
            if states.of((*self.ids[each.beam], each.token)).progress() != each.progress
        }
        expected = self._to_add(before)
        wrong |= {beam for beam in range(len(before)) if expected[beam] != self._added_to(beam)}
        return [beam not in wrong for beam in range(len(before))]

    def _to_add(self, before: Sequence[ConstraintState]) -> list[_Adding]:
        """What has to be added for each beam: what advances it and leads to a sequence of its own."""
        seen = {(*self.ids[each.beam], each.token) for each in self.best}
        found: list[_Adding] = []
        for ids, state in zip(self.ids, before, strict=True):
            own: _Adding = []
            for token, after in zip(state.advancing(), state.advanced(), strict=True):
                if (*ids, token) not in seen:
                    seen.add((*ids, token))
                    own.append((token, after.progress()))
            found.append(own)
        return found

    def _added_to(self, beam: int) -> _Adding:
        return [(each.token, each.progress) for each in self.added if each.beam == beam]

    def rearranged(
        self, found: Sequence[Continuation], first: int, running: Sequence[float]
    ) -> list[Continuation]:
        """The continuations with those that advance a constraint, once it is decided which go on.

        Args:
            found: the continuations, as they would go on without constraints.
            first: the first row of the step that is one of these beams.
            running: score of each row before the step.
        """
        self.going_on = self._order(len(self.best))
        rows = {place: first + row for row, place in enumerate(self.going_on)}
        places = iter(range(len(self.best)))
        moved = [each if each.row is None else self._moved(each, next(places), rows) for each in found]
        for place, new in enumerate(self.added, len(self.best)):
            parent = first + new.beam
            moved.append(
                Continuation(
                    parent=parent,
                    token=new.token,
                    before=running[parent],
                    log_probability=None,
                    score=new.score,
                    fate="beam" if place in rows else "cut",
                    row=rows.get(place),
                    bank=self._bank(new),
                    forced=True,
                )
            )
        return moved

    def _moved(self, each: Continuation, place: int, rows: dict[int, int]) -> Continuation:
        update = {
            "row": rows.get(place),
            "fate": "beam" if place in rows else "displaced",
            "bank": self._bank(self.best[place]),
        }
        return each.model_copy(update=update)

    @staticmethod
    def _bank(candidate: Candidate) -> int | None:
        return candidate.bank if candidate.asked is None else candidate.asked

    def _order(self, beams: int) -> list[int]:
        """Which candidates go on, in order, as ``step_sentence_constraint`` arranges them.

        They are sorted by bank and score; then come the first of each bank, the second of each, and so on.

        Args:
            beams: how many go on.
        """
        if not self.added:
            return [*range(beams)]
        banks = torch.tensor([self._bank(each) or 0 for each in self.candidates])
        scores = torch.tensor([each.score for each in self.candidates], dtype=self.dtype)
        order = (banks * 100 + scores).sort(descending=True).indices.tolist()
        in_bank, last, places = -1, int(banks[order[0]]), []
        for each in order:
            in_bank, last = (in_bank + 1 if int(banks[each]) == last else 0), int(banks[each])
            places.append(in_bank)
        return [order[place] for place in np.argsort(places, kind="mergesort")][:beams]


_Adding: TypeAlias = list[tuple[int, tuple[ConstraintProgress, ...]]]
"""Tokens that advance a beam, and how far it has come with each."""

_ASKED = ("hypothesis", "rejected", "unmet")
"""What became of continuations that ended in time to be hypotheses, if they meet their constraints."""
