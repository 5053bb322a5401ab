"""Read the stamps of a trace."""

from __future__ import annotations

from tracer.schema.stamp import Stamp
from tracer.tracefile.encoding.digests import digest
from tracer.tracefile.reading.database import Database


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
