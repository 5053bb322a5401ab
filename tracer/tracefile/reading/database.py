"""A trace opened for reading; nothing in it is trusted before it has been checked.

A trace may come from anyone. SQLite's own safeguards are switched on, the tables are compared with the
expected ones, the type of every value is checked, and a statement that runs longer than the file's size
explains is stopped.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, TypeAlias

from tracer.errors import TraceFileError
from tracer.messages import one_line, reason, shown
from tracer.tracefile.format import APPLICATION_ID, MAX_BLOB, SCHEMA_VERSION
from tracer.tracefile.reading.opening import connect_for_reading, ordinary_file
from tracer.tracefile.reading.queries import VERSIONS, Queries

ColumnType: TypeAlias = "type[int] | type[float] | type[str] | type[bytes] | tuple[type, ...]"
OPTIONAL_INT: ColumnType = (int, NoneType)
OPTIONAL_FLOAT: ColumnType = (float, int, NoneType)
OPTIONAL_TEXT: ColumnType = (str, NoneType)
OPTIONAL_BYTES: ColumnType = (bytes, NoneType)

_TICK = 100_000
"""Virtual machine instructions between two checks of how long a statement has run."""

_ROW_OVERHEAD = 1 << 20

_FREE_TICKS, _BYTES_A_TICK = 50, 20_000
_FREE_ROWS, _BYTES_A_ROW = 1000, 4
"""A row takes at least four bytes and some ten instructions; more than that means a cycle in the tables."""


class Database:
    """A read-only connection to a trace with the right identity, version and tables.

    Args:
        path: the trace file.

    Raises:
        TraceFileError: there is no such file, it is no trace, damaged, or of a newer version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path, self.size = ordinary_file(Path(path))
        self._ticks = 0
        self._connection = connect_for_reading(self.path)
        try:
            self._distrust()
            self.version = self._check_identity()
            self.queries: Queries = VERSIONS[self.version]
            self._check_tables()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._connection.close()

    def rows(
        self, statement: str, parameters: tuple[int | str, ...], *kinds: ColumnType
    ) -> Iterator[tuple[Any, ...]]:
        """Run a statement and check the type of every value.

        Args:
            statement: a SELECT.
            parameters: its parameters.
            kinds: what each column may hold; without them, anything.

        Raises:
            TraceFileError: the file is damaged or closed.
        """
        with self._guarded():
            cursor = self._connection.execute(statement, parameters)
        for count in itertools.count():
            with self._guarded():
                row = cursor.fetchone()
            if row is None:
                return
            if count > _FREE_ROWS + self.size // _BYTES_A_ROW and count > self._measure() // _BYTES_A_ROW:
                raise self.damaged("its tables contain a cycle")
            if kinds and not all(map(isinstance, row, kinds)):
                raise self.damaged("a value has the wrong type")
            yield row

    def row(
        self, statement: str, parameters: tuple[int | str, ...], *kinds: ColumnType
    ) -> tuple[Any, ...] | None:
        """The first row of a statement, None if there is none (see :meth:`rows`)."""
        return next(self.rows(statement, parameters, *kinds), None)

    def changes(self) -> int:
        """A number that changes when another program writes to the file."""
        found = self.row("PRAGMA data_version", (), int)
        return 0 if found is None else int(found[0])

    def damaged(self, what: str) -> TraceFileError:
        """The error for a file that contradicts itself."""
        return TraceFileError(f"{shown(self.path)} is damaged: {one_line(what)}")

    @contextlib.contextmanager
    def checking(self, what: str) -> Iterator[None]:
        """Turn a :class:`ValueError` of a decoder or check into the error for a damaged file.

        Args:
            what: what is being read, e.g. ``step 3 of run 1``.
        """
        try:
            yield
        except (ValueError, OverflowError, RecursionError, MemoryError) as error:
            raise self.damaged(f"{what}: {reason(error)}") from None

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        self._ticks = 0
        try:
            yield
        except sqlite3.Error as error:
            raise self._explain(error) from None
        except (UnicodeError, OverflowError, MemoryError):
            # SQLite's own message can quote bytes of the file that are no text.
            raise self.damaged("a value cannot be read") from None

    def _explain(self, error: sqlite3.Error) -> TraceFileError:
        text = str(error).lower()
        if "closed" in text:
            return TraceFileError(f"{shown(self.path)} has been closed")
        if "locked" in text or "busy" in text:
            return TraceFileError(f"{shown(self.path)} is locked by another program; try again")
        if "not a database" in text or "encrypted" in text:
            return TraceFileError(f"{shown(self.path)} is not a trace file")
        if "interrupted" in text:
            return self.damaged("its tables contain a cycle")
        return self.damaged(str(error))

    def _distrust(self) -> None:
        """Disable everything that a schema could make SQLite do, and limit what it allocates."""
        self._connection.set_progress_handler(self._tick, _TICK)
        if hasattr(
            self._connection, "setlimit"
        ):  # Python 3.11; before, SQLite's own limit of 10⁹ bytes holds
            self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_BLOB)
        for setting in ("trusted_schema=OFF", "query_only=ON", "cell_size_check=ON", "mmap_size=0"):
            with self._guarded():
                self._connection.execute(f"PRAGMA {setting}").fetchall()

    def _tick(self) -> int:
        """Called by SQLite; a non-zero result stops the statement."""
        self._ticks += 1
        if self._ticks <= _FREE_TICKS + self.size // _BYTES_A_TICK:
            return 0
        return int(self._ticks > _FREE_TICKS + self._measure() // _BYTES_A_TICK)

    def _measure(self) -> int:
        """Size of the file now: it grows while its run is being written."""
        with contextlib.suppress(TraceFileError):
            _, self.size = ordinary_file(self.path)
        return self.size

    def _check_identity(self) -> int:
        application = self.row("PRAGMA application_id", (), int)
        if application is None or application[0] != APPLICATION_ID:
            if self.size == 0:
                raise TraceFileError(f"{shown(self.path)} is empty")
            raise TraceFileError(f"{shown(self.path)} is a database of another program, not a trace file")
        found = self.row("PRAGMA user_version", (), int)
        version = 0 if found is None else int(found[0])
        if version > SCHEMA_VERSION:
            raise TraceFileError(
                f"{shown(self.path)} was written by a newer trace-generate (format {version}, "
                f"this one reads up to {SCHEMA_VERSION}); update trace-generate"
            )
        if version not in VERSIONS:
            raise TraceFileError(f"{shown(self.path)} has an unknown format version {version}")
        return version

    def _check_tables(self) -> None:
        expected = dict(self.queries.tables)
        statement = "SELECT type, name, sql FROM sqlite_master"
        for kind, name, sql in self.rows(statement, (), str, str, OPTIONAL_TEXT):
            if kind == "index" and sql is None:
                continue  # made by SQLite itself for a primary key
            if kind != "table" or expected.pop(name, None) != sql:
                raise self.damaged(f"it has an unexpected {kind} {name}")
        if expected:
            raise self.damaged(f"it lacks the table {min(expected)}")
