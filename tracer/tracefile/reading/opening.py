"""Find and open a trace file for reading, in whatever state its writer left it."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
from pathlib import Path
from urllib.parse import quote

from tracer.errors import TraceFileError
from tracer.messages import reason, shown
from tracer.tracefile.encoding.side_files import JOURNAL, LOG, foreign_side_file, has_journal, side_file
from tracer.tracefile.format import APPLICATION_ID

_APPLICATION_ID_AT = 68
"""Place of the application id in the header of a database."""


def ordinary_file(path: Path) -> tuple[Path, int]:
    """Absolute path and size in bytes, write-ahead log included.

    Raises:
        TraceFileError: there is no such file, or it is no ordinary file, or cannot be read.
    """
    try:
        path = path.absolute()
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise TraceFileError(f"{shown(path)} is a folder, not a trace file")
        if not stat.S_ISREG(status.st_mode):
            raise TraceFileError(f"{shown(path)} is not an ordinary file")
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        log = side_file(path, LOG)
        return path, status.st_size + (log.stat().st_size if log.is_file() else 0)
    except FileNotFoundError:
        raise TraceFileError(f"no such file: {shown(path)}") from None
    except (OSError, ValueError) as error:
        raise TraceFileError(f"cannot read {shown(path)}: {reason(error)}") from None


def connect_for_reading(path: Path) -> sqlite3.Connection:
    """Open a file read-only, with the steps that a killed writer left in the log beside it.

    Raises:
        TraceFileError: it cannot be opened as a database.
    """
    log = side_file(path, LOG)
    foreign = foreign_side_file(path)
    if foreign is not None:
        raise TraceFileError(
            f"cannot read {shown(path)}: the file beside it, {shown(foreign)}, is not that of a trace"
        )
    if log.is_file() or has_journal(path):
        _recover(path)
    try:
        return _try_open(path, "mode=ro")
    except sqlite3.OperationalError:
        pass  # opened another way below
    except (sqlite3.DatabaseError, UnicodeError):
        raise TraceFileError(f"{shown(path)} is not a trace file") from None
    if has_journal(path):
        raise TraceFileError(
            f"cannot read {shown(path)}: its last write was cut short, and what undoes it, "
            f"{shown(side_file(path, JOURNAL))}, cannot be applied here; "
            "copy both files to a folder that can be written"
        )
    if log.is_file():
        raise TraceFileError(
            f"cannot read {shown(path)}: its last steps are in {shown(log)} and the folder is read-only; "
            "copy both files to a folder that can be written"
        )
    try:
        # SQLite needs to write beside a file that was in use when it was copied; without a log, nothing
        # can be missing.
        return _try_open(path, "immutable=1")
    except (sqlite3.Error, UnicodeError) as error:
        raise TraceFileError(f"cannot read {shown(path)}: {reason(error)}") from None


def _try_open(path: Path, options: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        _address(path, options), uri=True, timeout=5, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA schema_version").fetchall()  # reads the file for the first time
    except BaseException:
        connection.close()
        raise
    return connection


def _recover(path: Path) -> None:
    """Move what a killed writer left in the log into the main file, or undo what its journal has half of.

    Does nothing to a database of another program, while a writer or another reader has the file open, or in a
    read-only folder: SQLite then reads both files together.
    """
    if not _is_trace(path):
        return
    with (
        contextlib.suppress(sqlite3.Error, UnicodeError),
        contextlib.closing(sqlite3.connect(_address(path, "mode=rw"), uri=True, timeout=0)) as connection,
    ):
        connection.execute("PRAGMA trusted_schema=OFF").fetchall()
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()


def _is_trace(path: Path) -> bool:
    """Whether the file says so itself; SQLite would play its journal back before it answers."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(_APPLICATION_ID_AT)
        return file.read(4) == APPLICATION_ID.to_bytes(4, "big")
    return False


def _address(path: Path, options: str) -> str:
    """URI of an absolute path; with an empty host, SQLite does not take ``//folder`` for one."""
    return f"file://{quote(os.fsencode(path))}?{options}"
