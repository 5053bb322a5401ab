"""How the runs of a trace branch off one another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tracer.analysis.runs import RecordedRun, check_row
from tracer.schema.run import RunEnd


@dataclass(frozen=True)
class Branch:
    """A run, from where it is its own.

    Attributes:
        number: number of the run.
        step: its first step of its own; 1 for a run that is no fork.
        token: the token of that step; None where none was chosen.
        probability: its probability there.
        tokens: ids of the tokens from that step on.
        log_probability: sum of the natural logarithms of the probabilities of all its tokens, those before
            the fork as its parent chose them; None where one was not recorded.
        end: its end record; None where it has none.
        branches: the runs that branch off it, by step.
    """

    number: int
    step: int
    token: int | None
    probability: float | None
    tokens: tuple[int, ...]
    log_probability: float | None
    end: RunEnd | None
    branches: tuple[Branch, ...]


def branches(runs: Mapping[int, RecordedRun], row: int = 0) -> tuple[Branch, ...]:
    """The runs that are no forks, each with those that branch off it.

    Args:
        runs: of one file, by number.
        row: row of the batch.

    Returns:
        In the order of their numbers. A fork whose parent is not in the file stands by itself.

    Raises:
        UsageError: a run has no such row.
    """
    for run in runs.values():
        check_row(run.header, row)
    choices = {number: _choices(run, row) for number, run in runs.items()}
    children: dict[int | None, list[int]] = {}
    for number in runs:
        children.setdefault(_parent(runs, number), []).append(number)
    return tuple(_branch(runs, choices, children, number) for number in children.get(None, []))


_Choices = Sequence[tuple[int, float] | None]
"""Token and probability of each step; None where none was recorded."""


def _choices(run: RecordedRun, row: int) -> _Choices:
    found = (step.choice(row) for step in run.steps)
    return [
        None if choice is None or choice.padding else (choice.token, choice.probability) for choice in found
    ]


def _parent(runs: Mapping[int, RecordedRun], number: int) -> int | None:
    """Number of the run that a run branches off; a fork is always later than its parent."""
    fork = runs[number].header.fork
    if fork is None or fork.trace is not None or fork.run not in runs or fork.run >= number:
        return None
    return fork.run


def _branch(
    runs: Mapping[int, RecordedRun],
    choices: Mapping[int, _Choices],
    children: Mapping[int | None, list[int]],
    number: int,
) -> Branch:
    run = runs[number]
    step = 1 if run.header.fork is None else run.header.fork.step
    own = [choice for choice in choices[number][step - 1 :] if choice is not None]
    inside = (_branch(runs, choices, children, child) for child in children.get(number, []))
    return Branch(
        number=number,
        step=step,
        token=own[0][0] if own else None,
        probability=own[0][1] if own else None,
        tokens=tuple(token for token, _ in own),
        log_probability=_sum(_path(runs, choices, number, math.inf)),
        end=run.end,
        branches=tuple(sorted(inside, key=lambda branch: (branch.step, branch.number))),
    )


def _path(
    runs: Mapping[int, RecordedRun], choices: Mapping[int, _Choices], number: int, before: float
) -> Iterator[tuple[int, float] | None]:
    """The choices of a run before a step, those before its fork from its parent."""
    parent, fork = _parent(runs, number), runs[number].header.fork
    start = 1 if parent is None or fork is None else fork.step
    if parent is not None:
        yield from _path(runs, choices, parent, min(start, before))
    for step, choice in enumerate(choices[number][start - 1 :], start):
        if step < before:
            yield choice


def _sum(path: Iterator[tuple[int, float] | None]) -> float | None:
    total = 0.0
    for choice in path:
        if choice is None:
            continue
        if not choice[1] > 0:
            return None
        total += math.log(choice[1])
    return total
