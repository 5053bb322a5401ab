"""Checks of what no run reads as a whole: metadata of the file, and rows that nothing refers to."""

from __future__ import annotations

from tracer.tracefile.encoding.digests import digest, meta_digest
from tracer.tracefile.format import META_DIGEST, VERSION_OF_META_DIGEST
from tracer.tracefile.reading.database import Database


def check_meta(database: Database) -> None:
    """Compare the metadata of the file with its digest.

    Raises:
        TraceFileError: it is not what was written.
    """
    rows = dict(database.rows(database.queries.all_meta, (), str, str))
    stored = rows.pop(META_DIGEST, None)
    if stored is None and database.version < VERSION_OF_META_DIGEST:
        return  # written before there was one
    if stored != meta_digest(database.version, rows):
        raise database.damaged("its metadata are not what was written")


def check_unread(database: Database) -> None:
    """Check every row of the tables from which readers take only what they are asked for.

    Raises:
        TraceFileError: a row is not what was written, or has a number that no row is written with.
    """
    for table, statement in database.queries.interned.items():
        for run, number, text, stored in database.rows(statement, (), int, int, str, bytes):
            if digest(run, number, text) != stored:
                raise database.damaged(f"row {number} of {table} of run {run} is not what was written")
    for table, statement in database.queries.misnumbered.items():
        row = database.row(statement, (), int)
        if row is not None and row[0]:
            raise database.damaged(f"table {table} has {row[0]} rows with impossible numbers")
