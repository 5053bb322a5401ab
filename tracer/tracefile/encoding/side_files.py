"""The files that SQLite keeps beside a database in use, and after a crash."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

LOG, SHARED_MEMORY, JOURNAL = "-wal", "-shm", "-journal"

SIDE_FILES = (LOG, SHARED_MEMORY, JOURNAL)
"""Their suffixes. The log holds transactions that are not in the database yet. The journal holds the pages
that a transaction in progress has changed, as they were: it is played back before anything is read."""

_OTHER_JOURNALS = bytes.fromhex("d9d505f920a163d7")
"""Ends a journal that names a further file, which SQLite deletes after it has played the journal back."""


def side_file(path: Path, suffix: str) -> Path:
    """The file of a suffix; SQLite names it after the file behind a link."""
    target = Path(os.path.realpath(path))
    return target.with_name(target.name + suffix)


def has_journal(path: Path) -> bool:
    """Whether a transaction may have been cut short, so that the file may hold half of it."""
    try:
        return side_file(path, JOURNAL).stat().st_size > 0
    except OSError:
        return False


def foreign_side_file(path: Path) -> Path | None:
    """A file beside the database that no writer of traces leaves, None where there is none.

    SQLite would wait for a pipe, write through a link, and delete the file that a journal names.
    """
    for suffix in SIDE_FILES:
        beside = side_file(path, suffix)
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(beside.lstat().st_mode) or (suffix == JOURNAL and _names_another(beside)):
                return beside
    return None


def _names_another(journal: Path) -> bool:
    with journal.open("rb") as file:
        file.seek(-len(_OTHER_JOURNALS), os.SEEK_END)
        return file.read() == _OTHER_JOURNALS
