"""How the runs of a trace branch off one another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tracer.analysis.runs import RecordedRun, check_row
from tracer.schema.lineage import Parents, lineage
from tracer.schema.run import RunEnd, RunHeader
from tracer.schema.step import Step


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
            the fork as its parent chose them; None where one was not recorded, or is 0.
        stopped_by: classes of the criteria that ended the row; none where it was not ended by one.
        end: its end record; None where it has none.
        branches: the runs that branch off it, by step.
    """

    number: int
    step: int
    token: int | None
    probability: float | None
    tokens: tuple[int, ...]
    log_probability: float | None
    stopped_by: tuple[str, ...]
    end: RunEnd | None
    branches: tuple[Branch, ...]


@dataclass(frozen=True)
class Chosen:
    """What a row chose in a step.

    Attributes:
        token: id of the token; None where none was chosen, or that was not recorded.
        probability: its probability; NaN where that was not recorded.
    """

    token: int | None
    probability: float


_NOTHING, _UNKNOWN = Chosen(None, 1.0), Chosen(None, math.nan)


class RowPath:
    """The way of one row through its run.

    Args:
        header: of the run.
        row: row of the batch.

    Attributes:
        header: of the run.
        stopped_by: classes of the criteria that ended it.
    """

    def __init__(self, header: RunHeader, row: int) -> None:
        self.header = header
        self.stopped_by: tuple[str, ...] = ()
        self._row = row
        self._moving = header.rows_move
        self._parents: list[Parents] = []
        self._rows: list[tuple[tuple[Chosen, ...], ...]] = []

    @property
    def chosen(self) -> list[Chosen]:
        """What it chose in each step; rows may have moved on the way."""
        rows = lineage(self._parents, self._row)[1:]
        found = (each[row if self._moving else 0] for each, row in zip(self._rows, rows, strict=True))
        return [*itertools.chain.from_iterable(found)]

    def add(self, step: Step) -> None:
        """Add a step; steps come in order."""
        rows = range(step.rows) if self._moving else (self._row,)
        self._rows.append(tuple(self._chosen(step, row) for row in rows))
        self._parents.append(step.parents)
        if not self.stopped_by:
            fired = (each.index for each in step.head.criteria if self._row in each.fired)
            self.stopped_by = tuple(map(self._criterion, fired))

    @staticmethod
    def _chosen(step: Step, row: int) -> tuple[Chosen, ...]:
        choice, assisted = step.choice(row), step.head.assisted
        if choice is None:
            return (_UNKNOWN if step.scores is None and step.head.failure is None else _NOTHING,)
        accepted = () if assisted is None else assisted.proposals[: len(assisted.appended) - 1]
        own = _NOTHING if choice.padding else Chosen(choice.token, choice.probability)
        return (*(Chosen(each.token, each.target) for each in accepted), own)

    def _criterion(self, index: int) -> str:
        criteria = self.header.criteria
        return criteria[index].class_name if index < len(criteria) else f"criterion {index}"


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
    paths = {number: RowPath(run.header, row) for number, run in runs.items()}
    for number, run in runs.items():
        for step in run.steps:
            paths[number].add(step)
    return branches_of(paths, {number: run.end for number, run in runs.items()})


def branches_of(paths: Mapping[int, RowPath], ends: Mapping[int, RunEnd | None]) -> tuple[Branch, ...]:
    """The same from what was collected of the runs.

    Args:
        paths: of a row of each run, with all its steps, by the number of the run.
        ends: the end record of each run.
    """
    children: dict[int | None, list[int]] = {}
    for number in paths:
        children.setdefault(_parent(paths, number), []).append(number)
    return tuple(_branch(paths, ends, children, number) for number in children.get(None, []))


def _parent(paths: Mapping[int, RowPath], number: int) -> int | None:
    """Number of the run that a run branches off; a fork is always later than its parent."""
    fork = paths[number].header.fork
    if fork is None or fork.trace is not None or fork.run not in paths or fork.run >= number:
        return None
    return fork.run


def _branch(
    paths: Mapping[int, RowPath],
    ends: Mapping[int, RunEnd | None],
    children: Mapping[int | None, list[int]],
    number: int,
) -> Branch:
    path = paths[number]
    step = 1 if path.header.fork is None else path.header.fork.step
    own = [(each.token, each.probability) for each in path.chosen[step - 1 :] if each.token is not None]
    inside = (_branch(paths, ends, children, child) for child in children.get(number, []))
    return Branch(
        number=number,
        step=step,
        token=own[0][0] if own else None,
        probability=own[0][1] if own else None,
        tokens=tuple(token for token, _ in own),
        log_probability=_sum(_whole(paths, number, math.inf)),
        stopped_by=path.stopped_by,
        end=ends[number],
        branches=tuple(sorted(inside, key=lambda branch: (branch.step, branch.number))),
    )


def _whole(paths: Mapping[int, RowPath], number: int, before: float) -> Iterator[Chosen]:
    """What a run chose before a step, before its fork what its parent did."""
    parent, fork = _parent(paths, number), paths[number].header.fork
    start = 1 if parent is None or fork is None else fork.step
    if parent is not None:
        yield from _whole(paths, parent, min(start, before))
    for step, chosen in enumerate(paths[number].chosen[start - 1 :], start):
        if step < before:
            yield chosen


def _sum(path: Iterator[Chosen]) -> float | None:
    total = 0.0
    for chosen in path:
        if not chosen.probability > 0:
            return None
        total += math.log(chosen.probability)
    return total
