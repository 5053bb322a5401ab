"""Open a trace for reading: any step in constant time, without torch and without the model.

>>> recording = TraceFile("run.trace")            # doctest: +SKIP
>>> recording.header.model.class_name              # doctest: +SKIP
'Qwen2ForCausalLM'
>>> recording.steps[0].candidates[0].probability   # doctest: +SKIP
0.8067
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tracer.errors import TraceFileError, UsageError
from tracer.messages import shown
from tracer.schema.run import RunEnd, RunHeader, TokenText
from tracer.tracefile.reading.database import Database
from tracer.tracefile.reading.kv_cache import TraceCache
from tracer.tracefile.reading.steps import StepSequence
from tracer.tracefile.reading.tokens import TokenTable
from tracer.tracefile.reading.trace_run import TraceRun

_Self = TypeVar("_Self", bound="TraceFile")


@dataclass(frozen=True)
class FileInfo:
    """Metadata of a trace file.

    Attributes:
        format_version: version of the tables and blobs.
        product_version: version of trace-generate that wrote it.
        created_at: UTC, ISO 8601.
        size: bytes on disk when it was opened, write-ahead log included.
    """

    format_version: int
    product_version: str
    created_at: str
    size: int


class TraceFile:
    """An open trace file; properties without a run number refer to its first run.

    It may be used from one thread at a time. While the run is still being written, new steps appear as
    they are committed.

    Args:
        path: the trace file.

    Raises:
        TraceFileError: there is no such file, it is no trace, damaged, or of a newer version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._database = Database(path)
        self._runs: dict[int, TraceRun] = {}
        self.tokens: Mapping[int, TokenText] = TokenTable(self._database)
        try:
            self.info = FileInfo(
                format_version=self._database.version,
                product_version=self._meta("version"),
                created_at=self._meta("created_at"),
                size=self._database.size,
            )
        except BaseException:
            self.close()
            raise

    def __reduce__(self) -> tuple[type[TraceFile], tuple[str]]:
        """In another process it is opened again, by its path."""
        return type(self), (os.fspath(self.path),)

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        try:
            return (
                f"<{type(self).__name__} {shown(self.path)}: {', '.join(map(repr, self.runs)) or 'no run'}>"
            )
        except TraceFileError as error:
            return f"<{type(self).__name__} {error}>"

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._database.close()

    @property
    def runs(self) -> tuple[TraceRun, ...]:
        """All runs in the order in which they began."""
        numbers = [number for (number,) in self._database.rows(self._database.queries.runs, (), int)]
        for number in numbers:
            if number not in self._runs:
                self._runs[number] = self._opened(number)
        return tuple(self._runs[number] for number in numbers)

    def run(self, number: int | None = None) -> TraceRun:
        """A run by its number, from 1; the first by default.

        Raises:
            UsageError: the file has no such run.
            TraceFileError: it holds no run at all.
        """
        if number is None:
            return self._first
        found = next((run for run in self.runs if run.number == number), None)
        if found is None:
            raise UsageError(f"{shown(self.path)} has no run {number}; it has {len(self.runs)}")
        return found

    @cached_property
    def _first(self) -> TraceRun:
        if not self.runs:
            raise TraceFileError(f"{shown(self.path)} holds no run: it ended before a generation began")
        return self.runs[0]

    @property
    def header(self) -> RunHeader:
        """Header of the first run."""
        return self._first.header

    @property
    def end(self) -> RunEnd | None:
        """End record of the first run, None if it is incomplete."""
        return self._first.end

    @property
    def complete(self) -> bool:
        """Whether there is at least one run and every run has its end record."""
        return bool(self.runs) and all(run.complete for run in self.runs)

    @property
    def steps(self) -> StepSequence:
        """Steps of the first run."""
        return self._first.steps

    def cache_at(self, step: int) -> TraceCache:
        """The KV cache of the first run after a step (see :meth:`TraceRun.cache_at`)."""
        return self._first.cache_at(step)

    def _opened(self, number: int) -> TraceRun:
        """A run of the file that is asked for the first time."""
        return TraceRun(self._database, number, self.tokens)

    def _meta(self, key: str) -> str:
        row = self._database.row(self._database.queries.meta, (key,), str)
        if row is None:
            raise self._database.damaged(f"it does not say its {key}")
        return str(row[0])
