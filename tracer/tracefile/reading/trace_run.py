"""One run of an open trace."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy.typing as npt

from tracer.errors import UsageError
from tracer.schema.base import short_repr
from tracer.schema.lineage import lineage
from tracer.schema.run import RunEnd, RunHeader, TokenText
from tracer.schema.stamp import Stamp
from tracer.schema.step import uncaptured_reason
from tracer.tracefile.encoding.digests import digest
from tracer.tracefile.encoding.saved_tensor import SavedTensor
from tracer.tracefile.encoding.validity import check_end, check_header
from tracer.tracefile.reading.database import OPTIONAL_BYTES, OPTIONAL_TEXT, Database
from tracer.tracefile.reading.kv_cache import TraceCache
from tracer.tracefile.reading.saved_tensors import SavedTensors
from tracer.tracefile.reading.stamps import read_stamps
from tracer.tracefile.reading.steps import StepSequence


class TraceRun:
    """One run of an open trace; everything is read when it is accessed.

    Args:
        database: the open trace.
        number: the run's number, from 1.
        tokens: texts of the tokens.
    """

    def __init__(self, database: Database, number: int, tokens: Mapping[int, TokenText]) -> None:
        self._database = database
        self._end: RunEnd | None = None
        self.number = number
        self.tokens = tokens

    def __repr__(self) -> str:
        state = "complete" if self.complete else "incomplete"
        model = short_repr(self.header.model.class_name)
        return f"<run {self.number}: {model}, {len(self.steps)} steps, {state}>"

    @cached_property
    def header(self) -> RunHeader:
        """The header, known before the first step.

        Raises:
            TraceFileError: it is damaged.
        """
        row = self._database.row(self._database.queries.header, (self.number,), str, bytes)
        with self._database.checking(f"the header of run {self.number}"):
            if row is None or digest(self.number, row[0]) != row[1]:
                raise ValueError("it is not what was written")
            header = RunHeader.model_validate_json(row[0])
            check_header(header)
        return header

    @property
    def end(self) -> RunEnd | None:
        """The end record; None while the run continues, and for ever after a crash.

        Raises:
            TraceFileError: it is damaged.
        """
        if self._end is None:
            kinds = (OPTIONAL_TEXT, OPTIONAL_BYTES, OPTIONAL_BYTES)
            row = self._database.row(self._database.queries.ending, (self.number,), *kinds)
            if row is None or row == (None, None, None):
                return None
            text, steps_digest, ending_digest = row
            with self._database.checking(f"the end of run {self.number}"):
                if None in row or digest(self.number, steps_digest, text) != ending_digest:
                    raise ValueError("it is not what was written")
                end = RunEnd.model_validate_json(text)
                check_end(end, self.header)
                self._end = end
        return self._end

    @property
    def complete(self) -> bool:
        """Whether the run has its end record: everything that was recorded is in the file."""
        return self.end is not None

    @cached_property
    def steps(self) -> StepSequence:
        """The steps, by index from 0, each read when it is accessed."""
        return StepSequence(self._database, self.number, self.header)

    @cached_property
    def _tensors(self) -> SavedTensors:
        """The tensors saved in the steps."""
        return SavedTensors(self._database, self.number)

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """Results of verifications that concern this run, oldest first."""
        return tuple(found for found in read_stamps(self._database) if found.run in (None, self.number))

    def tensor_names(self, step: int) -> tuple[str, ...]:
        """Names of the tensors saved in a step, sorted.

        Args:
            step: number of the step, from 1.
        """
        return self._tensors.names(step)

    def tensor(self, step: int, name: str) -> npt.NDArray[Any]:
        """A saved tensor as a NumPy array, without loss.

        A bfloat16 or float8 tensor is widened to float32, which represents each of its values exactly;
        :meth:`saved_tensor` gives the original bytes and the name of the dtype.

        Args:
            step: number of the step, from 1.
            name: one of :meth:`tensor_names`.

        Raises:
            KeyError: no such tensor was saved.
            TraceFileError: it is damaged.
        """
        return self.saved_tensor(step, name).array()

    def tensor_layout(self, step: int, name: str) -> tuple[str, tuple[int, ...]]:
        """Dtype and shape of a saved tensor, without reading its values (see :meth:`tensor`)."""
        return self._tensors.layout(step, name)

    def cache_at(self, step: int) -> TraceCache:
        """The KV cache after a step, from the slots that ``--save kv`` saved in each step up to it.

        Args:
            step: number of the step, from 1.

        Raises:
            UsageError: it cannot be put together, with the reason.
            TraceFileError: the trace is damaged.
        """
        numbers = [number for number in self.steps.numbers if number <= step]
        if not numbers or numbers[-1] != step:
            raise UsageError(f"Run {self.number} has no step {step}; it has {len(self.steps)}.")
        if len(numbers) != step:  # they rise, and begin at 1 or later
            raise UsageError(f"Steps before step {step} are missing, and with them their slots.")
        for number in numbers:
            if "kv/0/key" not in self.tensor_names(number):
                given = uncaptured_reason("kv", map(self.steps.number, numbers))
                advice = "; record with --capture tensors --save kv" if given is None else f": {given}"
                raise UsageError(f"The keys and values of step {number} were not saved{advice}.")
        if self.steps.number(1).head.cache_before.length:
            raise UsageError("The run began with a filled KV cache, whose slots a trace does not hold.")
        after = self.steps.number(step).head.cache_after
        return TraceCache(
            step,
            after.layers,
            after.length,
            lambda number, name: self.saved_tensor(number, name),
            numbers,
            self._rows_at(step),
        )

    def _rows_at(self, step: int) -> tuple[tuple[int, ...], ...]:
        """For each step up to one, where each row of that one's forward pass was; empty if all stay."""
        if not self.header.rows_move:
            return ()
        parents = [self.steps.number(number).parents for number in range(1, step)]
        paths = [lineage(parents, row) for row in range(len(self.header.prompt))]
        return tuple(zip(*paths, strict=True))

    def saved_tensor(self, step: int, name: str) -> SavedTensor:
        """A saved tensor as it was stored (see :meth:`tensor`)."""
        return self._tensors.read(step, name)
