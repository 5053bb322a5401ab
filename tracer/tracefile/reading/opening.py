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
from tracer.tracefile.format import APPLICATION_ID


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
        log = _log(path)
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
    log = _log(path)
    if log.is_file():
        _merge_log(path)
    try:
        return _try_open(path, "mode=ro")
    except sqlite3.OperationalError:
        pass  # opened another way below
    except (sqlite3.DatabaseError, UnicodeError):
        raise TraceFileError(f"{shown(path)} is not a trace file") from None
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


def _merge_log(path: Path) -> None:
    """Move what a killed writer left in the log into the main file.

    Does nothing while a writer or another reader has the file open, or in a read-only folder: SQLite then
    reads both files together.
    """
    with (
        contextlib.suppress(sqlite3.Error, UnicodeError),
        contextlib.closing(sqlite3.connect(_address(path, "mode=rw"), uri=True, timeout=0)) as connection,
    ):
        connection.execute("PRAGMA trusted_schema=OFF").fetchall()
        if connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,):
            connection.execute("PRAGMA journal_mode=DELETE").fetchall()


def _address(path: Path, options: str) -> str:
    """URI of an absolute path; with an empty host, SQLite does not take ``//folder`` for one."""
    return f"file://{quote(os.fsencode(path))}?{options}"


def _log(path: Path) -> Path:
    target = Path(os.path.realpath(path))  # SQLite names its log after the file behind a link
    return target.with_name(target.name + "-wal")
