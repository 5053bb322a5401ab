"""What a beam search returns: the sequences, values and beam indices that its recorded steps lead to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from hooks.caught_step import Checked
from hooks.decoding.caught_beams import NO_ORDER
from tracer.schema.beams import BeamEnd, Hypothesis
from tracer.schema.checks import Check, Violation
from tracer.schema.hypothesis_path import HypothesisPath, hypothesis_path


@dataclass
class Way:
    """The beams of a run, step after step.

    Attributes:
        parents: of each step: the row before it that each row after it continues.
        tokens: of each step the token of each row after it.
        without_order: rows of the batch with scores that are NaN in one of the steps.
    """

    parents: list[tuple[int, ...]] = field(default_factory=list)
    tokens: list[tuple[int, ...]] = field(default_factory=list)
    without_order: set[int] = field(default_factory=set)

    def add(self, parents: tuple[int, ...], tokens: tuple[int, ...], without_order: set[int]) -> None:
        """Add a step.

        Args:
            parents: the row before it that each row after it continues.
            tokens: the token of each row after it.
            without_order: rows of the batch with scores that are NaN.
        """
        self.parents.append(parents)
        self.tokens.append(tokens)
        self.without_order |= without_order


@dataclass(frozen=True)
class Closing:
    """What stands behind the tokens of a returned sequence.

    Attributes:
        token: the id behind each sequence that has room for one more; None where it is the token that ended
            the sequence, for which there is room always.
    """

    token: int | None = None

    def behind(self, ids: tuple[int, ...], hypothesis: Hypothesis, width: int) -> tuple[int, ...]:
        """The ids of a hypothesis as they are returned, without what fills them up.

        Args:
            ids: the prompt and its tokens, without the one that ended it.
            hypothesis: the hypothesis.
            width: length of what is returned.
        """
        if self.token is not None:
            return (*ids, self.token)[: max(width, len(ids))]
        return ids if hypothesis.token is None else (*ids, hypothesis.token)


def check_returned(
    output: Any, prompt: torch.Tensor, end: BeamEnd | None, way: Way, closing: Closing
) -> Checked:
    """Compare what the loop has returned with what its steps lead to.

    Args:
        output: what it has returned: the sequences, alone or with what belongs to them.
        prompt: ``[rows, length]`` that it began with.
        end: the hypotheses; None where they are not known.
        way: its steps.
        closing: what stands behind a sequence.
    """
    if end is None:
        return Check.not_made("returned", "what the search decided was not followed to its end"), ()
    found = _Returned.read(output)
    note = None
    if end.groups > 1 and found.indices is not None:
        found, note = replace(found, indices=None), _OF_GROUPS
    total, expected = len(found.sequences), [*_expected(end, way, len(found.sequences))]
    if not expected:
        return Check.not_made("returned", NO_ORDER if way.without_order else _NOTHING, total=total), ()
    rows = prompt.tolist()
    violations = tuple(
        Violation(check="returned", message=f"sequence {place}: {problem}", row=place)
        for place, hypothesis in expected
        for problem in found.problems(
            place, hypothesis, hypothesis_path(hypothesis, rows, way.parents, way.tokens), closing
        )
    )
    check = Check.made("returned", holds=not violations, checked=len(expected), total=total)
    return check.model_copy(update={"note": note}), violations


def _expected(end: BeamEnd, way: Way, sequences: int) -> Iterator[tuple[int, Hypothesis]]:
    """The hypothesis that has to be in each place, as far as that is known."""
    each = sequences // max(len(end.rows), 1)
    for row, outcome in enumerate(end.rows):
        if row not in way.without_order:
            # A place that no hypothesis has taken is returned too, behind those that one has.
            for place, number in enumerate(outcome.returned[:each], row * each):
                yield place, outcome.hypotheses[number]


_OF_GROUPS = "beam indices are not compared: the library numbers them within a group, and mixes groups"
_NOTHING = "no place that is returned has a hypothesis"


@dataclass(frozen=True)
class _Returned:
    """What was returned, on the host.

    Attributes:
        sequences: the ids of each sequence.
        values: the value of each; None where they were not asked for.
        indices: the row before each step of each; None where they were not asked for.
    """

    sequences: list[list[int]]
    values: list[float] | None
    indices: list[list[int]] | None

    @staticmethod
    def read(output: Any) -> _Returned:
        """Read the output of a loop."""
        sequences = getattr(output, "sequences", output)
        return _Returned(
            sequences.tolist(),
            *(
                None if found is None else found.tolist()
                for found in (getattr(output, name, None) for name in ("sequences_scores", "beam_indices"))
            ),
        )

    def problems(
        self, place: int, hypothesis: Hypothesis, path: HypothesisPath, closing: Closing
    ) -> Iterator[str]:
        """What is not that of the hypothesis that has to be in a place."""
        ids = self.sequences[place]
        whole = closing.behind(path.ids, hypothesis, len(ids))
        if tuple(ids[: len(whole)]) != whole or len({*ids[len(whole) :]}) > 1:
            yield "the ids are not those of its hypothesis"
        if self.values is not None and not _same(self.values[place], hypothesis.value):
            yield f"its score is {self.values[place]:.6g}, that of its hypothesis {hypothesis.value:.6g}"
        if self.indices is not None and _without_fill(self.indices[place]) != [*path.rows]:
            yield "the beam indices are not those of its hypothesis"


def _same(returned: float, value: float) -> bool:
    """Whether a returned value is one of ours in single precision."""
    with np.errstate(over="ignore"):
        return float(np.float32(value)) == returned or (math.isnan(value) and math.isnan(returned))


def _without_fill(indices: Sequence[int]) -> list[int]:
    return [row for row in indices if row >= 0]
