"""Stamp a trace: append the result of a verification to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3

from tracer.errors import OutputError, TraceFileError
from tracer.messages import one_line, shown
from tracer.schema.stamp import Stamp
from tracer.tracefile.encoding.digests import digest
from tracer.tracefile.reading.database import Database
from tracer.tracefile.writing.statements import record_text

BUSY_SECONDS = 5


def stamp(path: str | os.PathLike[str], record: Stamp) -> None:
    """Append the result of a verification to a trace.

    Args:
        path: the trace file; no run may be writing it.
        record: the result.

    Raises:
        TraceFileError: the file is no trace or damaged.
        OutputError: it cannot be written or is in use.
    """
    database = Database(path)  # refuses a hostile file before anything is written to it
    database.close()
    text = record_text(record)
    try:
        with contextlib.closing(
            sqlite3.connect(database.path, timeout=BUSY_SECONDS, isolation_level=None)
        ) as connection:
            connection.execute("PRAGMA trusted_schema=OFF").fetchall()
            connection.execute(
                "INSERT INTO stamp (data, digest) VALUES (?, ?)", (text, digest("stamp", text))
            )
    except sqlite3.OperationalError as error:
        raise OutputError(f"cannot write {shown(path)}: {one_line(error)}") from None
    except (sqlite3.DatabaseError, UnicodeError) as error:
        raise TraceFileError(f"{shown(path)} is damaged: {one_line(error)}") from None
