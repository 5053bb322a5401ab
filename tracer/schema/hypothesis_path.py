"""The way of a hypothesis through the steps of a beam search: its rows and its ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracer.schema.beams import Hypothesis
from tracer.schema.lineage import Parents, lineage


@dataclass(frozen=True)
class HypothesisPath:
    """Where a hypothesis comes from.

    Attributes:
        rows: the row that it is before each of its steps.
        ids: the prompt and its tokens, without the one that ended it.
    """

    rows: tuple[int, ...]
    ids: tuple[int, ...]


def hypothesis_path(
    hypothesis: Hypothesis,
    prompt: Sequence[Sequence[int]],
    parents: Sequence[Parents],
    tokens: Sequence[Sequence[int]],
) -> HypothesisPath:
    """Follow a hypothesis back to its prompt.

    Args:
        hypothesis: the hypothesis.
        prompt: ids of each row that the search began with.
        parents: of each step, in order.
        tokens: of each step the token of each row after it.
    """
    is_open = hypothesis.token is None
    steps = hypothesis.step if is_open else hypothesis.step - 1
    rows = lineage(parents[:steps], hypothesis.row)
    own = (chosen[row] for chosen, row in zip(tokens, rows[1:], strict=False))
    return HypothesisPath(rows=rows[:-1] if is_open else rows, ids=(*prompt[rows[0]], *own))
