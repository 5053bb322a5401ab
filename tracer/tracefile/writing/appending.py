"""Open an existing trace to add runs to it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from tracer.errors import OutputError, TraceFileError
from tracer.messages import one_line, shown
from tracer.tracefile.format import SCHEMA_VERSION
from tracer.tracefile.reading.database import Database
from tracer.tracefile.writing.creation import open_for_writing


@dataclass(frozen=True)
class ExistingTrace:
    """A trace that is open for writing.

    Attributes:
        connection: to its database.
        runs: number of its last run.
        tokens: ids whose texts it holds.
    """

    connection: sqlite3.Connection
    runs: int
    tokens: set[int]


def open_to_append(path: Path) -> ExistingTrace:
    """Open a trace to add runs to it.

    Args:
        path: the trace.

    Raises:
        TraceFileError: there is no such trace, it is damaged, or of another format version.
        OutputError: it cannot be written, or is in use.
    """
    database = Database(path)  # refuses a hostile file before anything is written to it
    try:
        version = database.version
        runs = max((run for (run,) in database.rows("SELECT run FROM run", (), int)), default=0)
        tokens = {token for (token,) in database.rows("SELECT id FROM token", (), int)}
    finally:
        database.close()
    if version != SCHEMA_VERSION:
        raise TraceFileError(
            f"{shown(path)} has trace format {version}, and runs are added to format {SCHEMA_VERSION} only; "
            "write to another file (--out)."
        )
    try:
        return ExistingTrace(open_for_writing(path), runs, tokens)
    except sqlite3.Error as error:
        raise OutputError(f"cannot write {shown(path)}: {one_line(error)}") from None
