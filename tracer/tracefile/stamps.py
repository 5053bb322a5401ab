"""Stamps: results of verifications, added to a trace after its run."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import Literal

from pydantic import Field

from tracer.errors import OutputError, TraceFileError
from tracer.schema.base import Record
from tracer.tracefile.database import Database
from tracer.tracefile.digests import digest
from tracer.tracefile.messages import one_line, shown
from tracer.tracefile.statements import record_text
from tracer.version import __version__

BUSY_SECONDS = 5


class Stamp(Record):
    """The result of one verification.

    Attributes:
        kind: ``file`` (the file itself) or ``rerun`` (an untraced run was compared).
        ok: whether it held.
        made_at: UTC, ISO 8601.
        summary: one line for people.
        run: the run that was looked at, None for all.
        details: further facts as text, e.g. ``{"ids": "128 of 128 equal"}``.
        product_version: version of the program that verified.
    """

    kind: Literal["file", "rerun"]
    ok: bool
    made_at: str
    summary: str
    run: int | None = None
    details: dict[str, str] = Field(default_factory=dict)
    product_version: str = __version__


def stamp(path: str | os.PathLike[str], record: Stamp) -> None:
    """Append the result of a verification to a trace.

    Args:
        path: the trace file; no run may be writing it.
        record: the result.

    Raises:
        TraceFileError: the file is no trace or damaged.
        OutputError: it cannot be written or is in use.
    """
    database = Database(path)  # a hostile file must not get as far as being written
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


def read_stamps(database: Database) -> tuple[Stamp, ...]:
    """All stamps in the order in which they were added.

    Raises:
        TraceFileError: one of them is damaged.
    """
    found = []
    for number, text, stored in database.rows(database.queries.stamps, (), int, str, bytes):
        with database.checking(f"stamp {number}"):
            if digest("stamp", text) != stored:
                raise ValueError("it is not what was written")
            found.append(Stamp.model_validate_json(text))
    return tuple(found)
