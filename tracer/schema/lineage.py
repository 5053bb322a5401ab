"""Rows that move: which row of an earlier step a row of a later one comes from."""

from __future__ import annotations

from collections.abc import Sequence

Parents = Sequence[int]
"""For each row after a step, the row before it that it continues; empty where each continues itself."""


def lineage(parents: Sequence[Parents], row: int) -> tuple[int, ...]:
    """The rows that a row was in, back to the prompt.

    Args:
        parents: of each step, in order.
        row: the row after the last of them.

    Returns:
        The row after each of the steps, and in front the row of the prompt: one more than there are steps.
    """
    found = [row]
    for each in reversed(parents):
        found.append(each[found[-1]] if each else found[-1])
    return tuple(reversed(found))
