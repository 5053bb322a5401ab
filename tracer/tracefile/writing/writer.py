"""Write a trace in transactions of some steps: a kill at any moment loses nothing that was committed."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType

from tracer.errors import IncompleteTraceError, OutputError
from tracer.messages import one_line, shown
from tracer.schema.run import RunEnd, RunHeader, TokenText
from tracer.schema.step import Step
from tracer.tracefile.encoding.digests import DigestChain, digest
from tracer.tracefile.encoding.packing import pack_step
from tracer.tracefile.encoding.saved_tensor import SavedTensor
from tracer.tracefile.encoding.validity import check_end, check_header, check_step
from tracer.tracefile.writing.appending import open_to_append
from tracer.tracefile.writing.creation import check_place, create_database
from tracer.tracefile.writing.open_run import OpenRun
from tracer.tracefile.writing.staged_step import StagedStep
from tracer.tracefile.writing.statements import (
    insert_interned,
    insert_steps,
    insert_tensors,
    insert_tokens,
    record_text,
)

NO_TENSORS: Mapping[str, SavedTensor] = MappingProxyType({})


class TraceWriter:
    """A new trace file, or a file to which runs are added.

    It may be used from one thread at a time, which need not be the one that created it.

    Args:
        path: the file to create.
        force: whether to replace an existing file.
        keep_old: let the file that is replaced stay until the first run begins.
        append: add runs to an existing trace.

    Raises:
        OutputError: the file exists and neither ``force`` nor ``append`` is set, is in use, or cannot be
            written.
        TraceFileError: with ``append``: there is no such trace, it is damaged, or of another format version.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        force: bool = False,
        keep_old: bool = False,
        append: bool = False,
    ) -> None:
        self.path = _absolute(path)
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._runs: dict[int, OpenRun] = {}
        self._staged: list[StagedStep] = []
        self._begun = 0
        self._tokens: set[int] = set()
        self._bytes_written = 0
        self._waiting = not append and check_place(self.path, force=force) and keep_old
        if append:
            self._open_to_append()
        elif not self._waiting:
            self._create(force=force)

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def bytes_written(self) -> int:
        """Bytes of headers, steps and tensors so far; the file is slightly larger once they are committed."""
        return self._bytes_written

    @property
    def begun(self) -> int:
        """Number of runs begun so far, which is the number of the last one."""
        return self._begun

    def catch_up(self) -> int:
        """Number of the last run; since the file was opened, another writer may have added some."""
        # One that cannot be read cannot be written either, which the first run says.
        with contextlib.suppress(sqlite3.Error):
            if self._connection is not None:
                (self._begun,) = self._connection.execute("SELECT coalesce(max(run), 0) FROM run").fetchone()
        return self._begun

    def begin_run(self, header: RunHeader, new_tokens: Sequence[TokenText] = ()) -> int:
        """Add a run.

        Args:
            header: its header.
            new_tokens: texts of the prompt's tokens; those that the file has already are skipped.

        Returns:
            The run's number, from 1, which its steps have to carry.

        Raises:
            IncompleteTraceError: the file cannot be written any more.
            ValueError: the header contradicts itself.
        """
        if self._waiting:
            self._create(force=True)
        check_header(header)
        text = record_text(header)
        number, tokens = self._begun + 1, self._unknown(new_tokens)
        header_digest = digest(number, text)
        with self._transaction(f"run {number}") as connection:
            if connection.execute("SELECT 1 FROM run WHERE run = ?", (number,)).fetchone():
                raise IncompleteTraceError(
                    f"another program has just begun run {number} of {shown(self.path)}; try again"
                )
            insert_tokens(connection, tokens.values())
            connection.execute(
                "INSERT INTO run (run, header, header_digest) VALUES (?, ?, ?)", (number, text, header_digest)
            )
        self._begun = number
        self._tokens.update(tokens)
        self._runs[number] = OpenRun(header, DigestChain(header_digest))
        self._bytes_written += len(text)
        return number

    def write_step(
        self,
        step: Step,
        new_tokens: Sequence[TokenText] = (),
        tensors: Mapping[str, SavedTensor] = NO_TENSORS,
    ) -> None:
        """Add a step with its tokens and tensors, and commit it (see :meth:`stage_step`).

        Raises:
            IncompleteTraceError: the disk is full or the file is gone; all earlier steps are kept.
            ValueError: the step contradicts itself or its run; nothing was written.
        """
        self.stage_step(step, new_tokens, tensors)
        self.commit()

    def stage_step(
        self,
        step: Step,
        new_tokens: Sequence[TokenText] = (),
        tensors: Mapping[str, SavedTensor] = NO_TENSORS,
    ) -> None:
        """Get a step ready; :meth:`commit` writes it.

        Args:
            step: the step; numbers rise within a run.
            new_tokens: texts of tokens; those that the file has already are skipped.
            tensors: tensors to save, by name.

        Raises:
            ValueError: the step contradicts itself or its run; it is left out.
        """
        run = self._open_run(step.head.run)
        if step.number <= run.last_step:
            raise ValueError(f"step {step.number} comes after step {run.last_step}")
        check_step(step, run.header)
        packed = pack_step(step, len(tensors))
        staged = StagedStep(
            step=step,
            packed=packed,
            digest=packed.digest,
            before=run.last_step,
            layouts=run.new_layouts(step),
            shapes=run.new_shapes(step),
            tokens=self._unknown(new_tokens),
            tensors=tensors,
        )
        run.add(step, staged.layouts, staged.shapes)
        self._tokens.update(staged.tokens)
        self._bytes_written += staged.nbytes
        self._staged.append(staged)

    def commit(self) -> None:
        """Write the steps that are staged in one transaction, all or none of them.

        Many steps share what a transaction costs, in time and in pages of the log.

        Raises:
            IncompleteTraceError: the disk is full or the file is gone; all earlier steps are kept, and those
                that were staged may be staged again.
        """
        staged, self._staged = self._staged, []
        if not staged:
            return
        try:
            with self._transaction(f"step {staged[0].step.number}") as connection:
                self._insert(connection, staged)
        except BaseException:
            self._take_back(staged)
            raise
        for each in staged:
            self._runs[each.packed.run].chain.add(each.digest)

    def end_run(self, run: int, end: RunEnd, new_tokens: Sequence[TokenText] = ()) -> None:
        """Add the end record, which makes a run complete; steps that are staged are committed before it.

        Raises:
            IncompleteTraceError: the file cannot be written any more.
            ValueError: there is no such open run, or the end record contradicts itself.
        """
        state = self._open_run(run)
        self.commit()
        check_end(end, state.header)
        text, steps_digest, tokens = record_text(end), state.chain.value(), self._unknown(new_tokens)
        with self._transaction(f"the end of run {run}") as connection:
            insert_tokens(connection, tokens.values())
            connection.execute(
                "UPDATE run SET ending = ?, steps_digest = ?, ending_digest = ? WHERE run = ?",
                (text, steps_digest, digest(run, steps_digest, text), run),
            )
        self._tokens.update(tokens)
        self._bytes_written += len(text)
        del self._runs[run]

    def close(self) -> None:
        """Merge the log into the database and close it; safe to call twice.

        If another program has the trace open, the log stays beside it until it is opened again.

        Raises:
            IncompleteTraceError: the disk is full or the file is gone; all written steps are kept.
        """
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            self._check_still_there()
            connection.execute("PRAGMA journal_mode=DELETE").fetchall()
        except sqlite3.Error as error:
            if "locked" not in str(error):
                log = shown(self.path) + "-wal"
                raise IncompleteTraceError(
                    f"{shown(self.path)} could not be closed: {one_line(error)}; keep {log} beside it"
                ) from None
        finally:
            connection.close()

    def discard(self) -> None:
        """Close the file and remove it, if it is this writer's own and no run was begun."""
        created = self._connection is not None
        self.close()
        if created and not self._begun and _identity(self.path) == self._identity:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _create(self, *, force: bool) -> None:
        self._connection = create_database(self.path, force=force)
        self._identity, self._waiting = _identity(self.path), False

    def _open_to_append(self) -> None:
        existing = open_to_append(self.path)
        self._connection, self._identity = existing.connection, _identity(self.path)
        self._begun, self._tokens = existing.runs, existing.tokens

    def _open_run(self, number: int) -> OpenRun:
        if number not in self._runs:
            raise ValueError(f"there is no open run {number}")
        return self._runs[number]

    def _insert(self, connection: sqlite3.Connection, staged: Sequence[StagedStep]) -> None:
        insert_interned(connection, "layout", [(each.packed.run, each.layouts) for each in staged])
        insert_interned(connection, "call_shape", [(each.packed.run, each.shapes) for each in staged])
        insert_tokens(connection, [token for each in staged for token in each.tokens.values()])
        insert_steps(connection, staged)
        for each in staged:
            insert_tensors(connection, each.packed.run, each.packed.step, each.tensors)

    def _take_back(self, staged: Sequence[StagedStep]) -> None:
        """Forget what was staged and not written."""
        for each in reversed(staged):
            self._runs[each.packed.run].take_back(each.before, each.layouts, each.shapes)
            self._tokens.difference_update(each.tokens)
            self._bytes_written -= each.nbytes

    def _unknown(self, tokens: Sequence[TokenText]) -> dict[int, TokenText]:
        return {token.id: token for token in tokens if token.id not in self._tokens}

    def _check_still_there(self) -> None:
        # An open file can be written even after it was deleted, and the steps would be lost.
        if _identity(self.path) != self._identity:
            raise IncompleteTraceError(f"{shown(self.path)} was deleted or replaced while it was written")

    @contextlib.contextmanager
    def _transaction(self, what: str) -> Iterator[sqlite3.Connection]:
        """A transaction that is rolled back on any exception.

        Args:
            what: what is being written, for the error message.
        """
        connection = self._connection
        if connection is None:
            raise ValueError("the trace is closed")
        self._check_still_there()
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            _roll_back(connection)
            raise IncompleteTraceError(
                f"{shown(self.path)} ends before {what}: {one_line(error)}; what was written before is kept"
            ) from None
        except BaseException:
            _roll_back(connection)
            raise


def _absolute(path: str | os.PathLike[str]) -> Path:
    """Absolute path, which stays valid when the program changes its working directory."""
    try:
        return Path.cwd() / path
    except OSError:
        raise OutputError(f"cannot write {shown(path)}: the current folder is gone") from None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _roll_back(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
