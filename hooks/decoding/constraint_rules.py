"""How far ids have met constraints, by the rules of ``ConstraintListState``; nothing is asked of its objects.

One constraint at a time is in progress: the first that a token begins, until it is met or another token
breaks it off. A phrase has one word, an alternative several, any of which meets it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tracer.schema.beams import Constraint, ConstraintProgress, ConstraintStatus


@dataclass(frozen=True)
class Part:
    """A constraint with the tokens of it that are there.

    Attributes:
        number: the constraint among those of the run.
        so_far: the tokens.
    """

    number: int
    so_far: tuple[int, ...] = ()


@dataclass(frozen=True)
class ConstraintState:
    """How far a sequence has met its constraints.

    Attributes:
        constraints: the constraints of the run.
        met: those that are met, in the order in which they were.
        begun: the one in progress; None where none is.
        waiting: numbers of the others, in the order in which they are tried.
    """

    constraints: tuple[Constraint, ...]
    met: tuple[Part, ...]
    begun: Part | None
    waiting: tuple[int, ...]

    @staticmethod
    def at_start(constraints: tuple[Constraint, ...]) -> ConstraintState:
        """Of a sequence without an id.

        Args:
            constraints: the constraints of the run.
        """
        return ConstraintState(constraints, (), None, tuple(range(len(constraints))))

    @property
    def complete(self) -> bool:
        """Whether all constraints are met."""
        return len(self.met) == len(self.constraints)

    def after(self, token: int) -> ConstraintState:
        """The state behind one token more.

        Args:
            token: the token.
        """
        if self.begun is not None:
            if token in self._next(self.begun):
                return self._gone_on(self.begun, token)
            return replace(self, begun=None, waiting=(*self.waiting, self.begun.number))
        number = next((each for each in self.waiting if token in self._next(Part(each))), None)
        if number is None:
            return self
        left = tuple(each for each in self.waiting if each != number)
        return replace(self, waiting=left)._gone_on(Part(number), token)

    def advancing(self) -> tuple[int, ...]:
        """The tokens that would advance it, in the order in which the library has them."""
        parts = [self.begun] if self.begun is not None else [Part(each) for each in self.waiting]
        return tuple(token for part in parts for token in self._next(part))

    def advanced(self) -> list[ConstraintState]:
        """The states behind each of these tokens, as the library makes them.

        Its copies of an alternative in progress share one list of tokens: a token that one of them takes is
        there for the next.
        """
        tokens, begun = self.advancing(), self.begun
        if begun is None or len(self.constraints[begun.number].words) == 1:
            return [self.after(token) for token in tokens]
        shared = replace(self)
        states = []
        for token in tokens:
            assert shared.begun is not None
            states.append(shared.after(token))
            if token in self._next(shared.begun):
                shared = replace(shared, begun=Part(begun.number, (*shared.begun.so_far, token)))
        assert shared.begun is not None
        return [state._with(shared.begun) for state in states]

    def progress(self) -> tuple[ConstraintProgress, ...]:
        """How far it has come with each constraint; of equal ones the first is named first."""
        left = [*range(len(self.constraints))]
        found = []
        for status, part in self._by_status():
            wanted = self.constraints[part.number]
            number = next(each for each in left if self.constraints[each] == wanted)
            left.remove(number)
            advances = status == "in progress" or (status == "open" and self.begun is None)
            found.append(
                ConstraintProgress(
                    constraint=number,
                    status=status,
                    so_far=part.so_far,
                    next=self._next(part) if advances else (),
                )
            )
        return tuple(sorted(found, key=lambda each: each.constraint))

    def _by_status(self) -> Iterator[tuple[ConstraintStatus, Part]]:
        for part in self.met:
            yield "met", part
        if self.begun is not None:
            yield "in progress", self.begun
        for number in self.waiting:
            yield "open", Part(number)

    def _next(self, part: Part) -> tuple[int, ...]:
        """The tokens that would advance a constraint, each once."""
        said = len(part.so_far)
        words = self.constraints[part.number].words
        return tuple(
            dict.fromkeys(
                word[said] for word in words if len(word) > said and tuple(word[:said]) == part.so_far
            )
        )

    def _gone_on(self, part: Part, token: int) -> ConstraintState:
        part = Part(part.number, (*part.so_far, token))
        if self._next(part):
            return replace(self, begun=part)
        return replace(self, begun=None, met=(*self.met, part))

    def _with(self, shared: Part) -> ConstraintState:
        """The same with the tokens that a constraint has in the end."""
        return replace(
            self,
            met=tuple(shared if part.number == shared.number else part for part in self.met),
            begun=None if self.begun is None else shared,
        )


class ConstraintStates:
    """The states of the sequences of a run.

    Args:
        constraints: the constraints of the run.

    Attributes:
        unknown: class of a constraint whose rules are not known; None where there is none.
    """

    def __init__(self, constraints: tuple[Constraint, ...]) -> None:
        self.unknown = next((each.name for each in constraints if not each.words), None)
        self._constraints = constraints
        self._known: dict[tuple[int, ...], ConstraintState] = {}
        self._before: dict[tuple[int, ...], ConstraintState] = {}

    def next_step(self) -> None:
        """A step begins, whose sequences are those of the one before with one id more."""
        self._before, self._known = self._known, {}

    def of(self, ids: Sequence[int]) -> ConstraintState:
        """The state of a sequence.

        Args:
            ids: its ids, the prompt among them.
        """
        key = tuple(ids)
        if key not in self._known:
            before = self._before.get(key[:-1])
            self._known[key] = self._over(key) if before is None else before.after(key[-1])
        return self._known[key]

    def _over(self, ids: tuple[int, ...]) -> ConstraintState:
        state = ConstraintState.at_start(self._constraints)
        for token in ids:
            state = state.after(token)
        return state
