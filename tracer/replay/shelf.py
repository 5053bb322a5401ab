"""What was read last of a run, so that a halt reads its step once and memory does not grow on the way."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tracer.analysis.runs import history_of
from tracer.errors import UsageError
from tracer.schema.arrays import I64
from tracer.schema.lineage import Parents, lineage
from tracer.schema.step import Step
from tracer.tracefile import TraceCache, TraceRun

Read = TypeVar("Read")

_STEPS, _ARRAYS = 4, 6
"""How many steps and arrays are kept."""


class Shelf:
    """Reads steps and arrays of a run, and keeps the last few.

    Args:
        run: the run.
    """

    def __init__(self, run: TraceRun) -> None:
        self.run = run
        self._steps: OrderedDict[Hashable, Step] = OrderedDict()
        self._arrays: OrderedDict[Hashable, npt.NDArray[Any]] = OrderedDict()
        self._tokens: dict[int, tuple[tuple[int, ...], ...]] = {}
        self._parents: dict[int, Parents] = {}
        self._cache: TraceCache | None = None

    def step(self, number: int) -> Step:
        """A step by its number.

        Raises:
            KeyError: there is no such step.
            TraceFileError: it is damaged.
        """
        return _kept(self._steps, number, lambda: self.run.steps.number(number), _STEPS)

    def neighbour(self, number: int) -> Step | None:
        """A step by its number, None where the recording has none of it."""
        return self.step(number) if number in self.run.steps.numbers else None

    def tensor(self, step: int, name: str) -> npt.NDArray[Any]:
        """A saved tensor of a step.

        Raises:
            KeyError: no such tensor was saved.
            TraceFileError: it is damaged.
        """
        return self.array((step, name), lambda: self.run.tensor(step, name))

    def history(self, step: int, row: int) -> I64:
        """A row's ids before a step, padding included.

        Raises:
            UsageError: a step before it was not recorded.
        """
        if self.run.complete and not self.run.header.rows_move:
            return self.array((step, row), lambda: history_of(self.run, step, row))
        # Without the end record they are put together from the steps, each of which is read for it once.
        rows = lineage([self.parents(number) for number in range(1, step)], row)
        tokens = [token for number in range(1, step) for token in self._appended(number)[rows[number]]]
        return np.array([*self.run.header.prompt[rows[0]].token_ids, *tokens], dtype=np.int64)

    def parents(self, number: int) -> Parents:
        """For each row after a step, the row before it that it continues; empty where rows stay.

        Args:
            number: number of the step.
        """
        if not self.run.header.rows_move:
            return ()
        if number not in self._parents:
            self._parents[number] = self.step(number).parents
        return self._parents[number]

    def _appended(self, number: int) -> tuple[tuple[int, ...], ...]:
        """The tokens that a step appended to each row."""
        if number not in self._tokens:
            step = self.step(number) if number in self.run.steps.numbers else None
            if step is None or step.scores is None:
                raise UsageError(f"the tokens of step {number} were not recorded")
            self._tokens[number] = tuple(step.appended(row) for row in range(step.rows))
        return self._tokens[number]

    def cache_at(self, step: int) -> TraceCache:
        """The KV cache after a step; which of its slots were saved is looked up once for a step.

        Raises:
            UsageError: it cannot be put together, with the reason.
        """
        if self._cache is None or self._cache.step != step:
            self._cache = self.run.cache_at(step)
        return self._cache

    def array(self, key: Hashable, read: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """An array by a key of the caller's.

        Args:
            key: names the array.
            read: reads it if it is not there.
        """
        return _kept(self._arrays, key, read, _ARRAYS)


def _kept(shelf: OrderedDict[Hashable, Read], key: Hashable, read: Callable[[], Read], most: int) -> Read:
    if key not in shelf:
        shelf[key] = read()
    shelf.move_to_end(key)
    while len(shelf) > most:
        shelf.popitem(last=False)
    return shelf[key]
