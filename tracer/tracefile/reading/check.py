"""Check a whole trace: every digest, every count, and that its tables agree."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tracer.errors import TraceFileError
from tracer.messages import shown
from tracer.schema.checks import CheckName, CheckResult
from tracer.schema.run import RunEnd, RunStatus
from tracer.schema.step import Step
from tracer.tracefile.encoding.digests import DigestChain
from tracer.tracefile.encoding.plain_rows import plain_rows, step_columns
from tracer.tracefile.reading.coverage import check_meta, check_unread
from tracer.tracefile.reading.database import Database
from tracer.tracefile.reading.saved_tensors import SavedTensors
from tracer.tracefile.reading.stamps import read_stamps
from tracer.tracefile.reading.trace_file import FileInfo, TraceFile
from tracer.tracefile.reading.trace_run import TraceRun
from tracer.tracefile.reading.wholeness import Wholeness

MAX_PROBLEMS = 50
_MAX_MISSING = 20
_SMALLEST = -(1 << 63)


@dataclass(frozen=True)
class CheckTally:
    """What became of one kind of check in the steps of a run.

    Attributes:
        name: which check.
        result: what became of it.
        reason: why it was not made; None where it was.
        steps: in how many steps; 1 for a check of the whole run.
    """

    name: CheckName
    result: CheckResult
    reason: str | None
    steps: int


@dataclass(frozen=True)
class RunReport:
    """The result of checking one run.

    Attributes:
        number: the run's number, from 1.
        status: how it ended, None if its end record is missing.
        steps: number of recorded steps.
        missing: numbers of steps that happened and are not in the file (the first twenty).
        tensors: number of saved tensors.
        tensor_bytes: bytes of their values.
        gaps: what was not recorded or does not fit the run's ids, one line each.
        checks: what became of the checks of its steps, and of what it returned.
    """

    number: int
    status: RunStatus | None
    steps: int
    missing: tuple[int, ...]
    tensors: int
    tensor_bytes: int
    gaps: tuple[str, ...] = ()
    checks: tuple[CheckTally, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the run has its end record and no step is missing."""
        return self.status is not None and not self.missing

    @property
    def whole(self) -> bool:
        """Whether it is complete and everything in it was recorded and fits together."""
        return self.complete and not self.gaps


@dataclass(frozen=True)
class FileReport:
    """The result of checking a trace.

    Attributes:
        path: the file.
        info: its size and versions.
        runs: one report per run.
        tokens: number of token texts.
        problems: one line for each part that is not as it was written (the first fifty).
    """

    path: Path
    info: FileInfo
    runs: tuple[RunReport, ...]
    tokens: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything in the file is as it was written; it may still be incomplete."""
        return not self.problems

    @property
    def complete(self) -> bool:
        """Whether there is a run, and every run is complete."""
        return bool(self.runs) and all(run.complete for run in self.runs)

    @property
    def whole(self) -> bool:
        """Whether there is a run, and every run is whole."""
        return bool(self.runs) and all(run.whole for run in self.runs)


def check_file(path: str | os.PathLike[str]) -> FileReport:
    """Check a trace from beginning to end.

    Takes time proportional to the file's size, and memory for one step or tensor at a time.

    Args:
        path: the trace file.

    Raises:
        TraceFileError: it cannot be read as a trace at all; other damage is a problem in the report.
    """
    with TraceFile(path) as recording, contextlib.closing(Database(path)) as database:
        problems = _Problems(f"{shown(database.path)} is damaged: ")
        with problems.collecting():
            for (found,) in database.rows("PRAGMA integrity_check(20)", (), str):
                if found != "ok":
                    problems.add(found)
        totals: Counter[str] = Counter()
        with problems.collecting():
            check_meta(database)
        runs = tuple(_RunCheck(run, database, problems, totals).report() for run in recording.runs)
        with problems.collecting():
            _check_totals(database, problems, totals)
        tokens = _check_tokens(recording, problems)
        with problems.collecting():
            check_unread(database)
            read_stamps(database)
        return FileReport(recording.path, recording.info, runs, tokens, tuple(problems.found))


@dataclass
class _Problems:
    """The problems found so far.

    Attributes:
        prefix: what messages begin with that need not be said for each.
        found: one line each.
    """

    prefix: str
    found: list[str] = field(default_factory=list)

    def add(self, problem: str) -> None:
        if len(self.found) < MAX_PROBLEMS and problem not in self.found:
            self.found.append(problem)

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Record damage as a problem and continue after the block."""
        try:
            yield
        except TraceFileError as error:
            self.add(str(error).removeprefix(self.prefix))
        except KeyError as error:
            self.add(f"{error} is listed but cannot be found")


@dataclass
class _RunCheck:
    """The check of one run.

    Attributes:
        run: the run.
        database: the trace.
        problems: where problems are added.
        totals: rows found so far, by table.
        tensors: tensors found so far.
        tensor_bytes: bytes of tensors found so far.
        checks: what became of the checks of the steps so far.
    """

    run: TraceRun
    database: Database
    problems: _Problems
    totals: Counter[str]
    tensors: int = 0
    tensor_bytes: int = 0
    checks: Counter[tuple[CheckName, CheckResult, str | None]] = field(default_factory=Counter)

    def report(self) -> RunReport:
        numbers: Sequence[int] = ()
        end: RunEnd | None = None
        whole: Wholeness | None = None
        with self.problems.collecting():
            chain = DigestChain(self._header_digest())
            numbers = self.run.steps.numbers
            with self.problems.collecting():
                end = self.run.end
            whole = Wholeness(self.run.header, end)
            for number in numbers:
                self._check_step(number, chain, whole)
            if end is not None:
                self.checks.update((check.name, check.result, check.reason) for check in end.checks)
                self._check_end(end, chain, len(numbers))
        return RunReport(
            number=self.run.number,
            status=None if end is None else end.status,
            steps=len(numbers),
            missing=_missing(numbers, end),
            tensors=self.tensors,
            tensor_bytes=self.tensor_bytes,
            gaps=() if whole is None else whole.gaps(),
            checks=tuple(CheckTally(*found, steps) for found, steps in self.checks.items()),
        )

    def _header_digest(self) -> bytes:
        _ = self.run.header  # compares header and digest
        row = self.database.row(self.database.queries.header, (self.run.number,), str, bytes)
        return b"" if row is None else bytes(row[1])

    def _check_step(self, number: int, chain: DigestChain, whole: Wholeness) -> None:
        self.totals["step"] += 1
        with self.problems.collecting():
            packed, stored = self.run.steps.packed(number)
            chain.add(stored)
            step = self.run.steps.unpack(packed, stored)
            whole.add(step)
            self.checks.update((check.name, check.result, check.reason) for check in step.head.checks)
            self._check_plain(step)
            saved = SavedTensors(self.database, self.run.number)
            names = saved.stored(number)
            if len(names) != packed.tensors:
                self.problems.add(
                    f"step {number} of run {self.run.number} has {len(names)} tensors, not {packed.tensors}"
                )
            for name in names:
                self.totals["tensor"] += 1
                self.tensor_bytes += saved.read(number, name).nbytes
            self.tensors += len(saved.names(number))

    def _check_plain(self, step: Step) -> None:
        """Compare the plain columns with the records they were made from."""
        queries, key = self.database.queries, (self.run.number, step.number)
        where = f"of step {step.number} of run {self.run.number}"
        if self.database.row(queries.step_columns, key) != step_columns(step.head):
            self.problems.add(f"the plain columns {where} differ from its head")
        for table, expected in plain_rows(step).items():
            self.totals[table] += len(expected)
            # A mistaken number of rows is found at the first that is one too many.
            stored = itertools.islice(self.database.rows(queries.plain[table], key), len(expected) + 1)
            if list(stored) != expected:
                self.problems.add(f"the rows of {table} {where} differ from its numbers")

    def _check_end(self, end: RunEnd, chain: DigestChain, steps: int) -> None:
        row = self.database.row(self.database.queries.ending, (self.run.number,))
        if row is None or row[1] != chain.value():
            self.problems.add(
                f"the steps of run {self.run.number} are not those that its end was written for"
            )
        if end.steps < steps:
            self.problems.add(f"run {self.run.number} has {steps} steps, its end record says {end.steps}")


def _missing(numbers: Sequence[int], end: RunEnd | None) -> tuple[int, ...]:
    """Steps up to the last known one that were not recorded."""
    last = max(numbers[-1] if numbers else 0, end.steps if end is not None else 0)
    present = set(numbers)
    gaps = (number for number in range(1, last + 1) if number not in present)
    return tuple(itertools.islice(gaps, _MAX_MISSING))


def _check_totals(database: Database, problems: _Problems, totals: Counter[str]) -> None:
    """Report rows that belong to no step."""
    for table, statement in database.queries.totals.items():
        row = database.row(statement, (_SMALLEST,), int)
        surplus = (0 if row is None else int(row[0])) - totals[table]
        # Rows of a step that could not be read were not counted; that damage is reported already.
        if surplus and not problems.found:
            problems.add(f"table {table} has {surplus} rows that belong to no step")


def _check_tokens(recording: TraceFile, problems: _Problems) -> int:
    count = 0
    with problems.collecting():
        for token in recording.tokens:
            count += 1
            with problems.collecting():
                _ = recording.tokens[token]
    return count
