"""Create the file of a new trace without losing an old one on failure."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tracer.clock import utc_now
from tracer.errors import OutputError
from tracer.messages import shown
from tracer.output_files import beside, check_target, exists_already, unwritable
from tracer.tracefile.encoding.columns import CACHE, MODULES, SCORES
from tracer.tracefile.encoding.digests import meta_digest
from tracer.tracefile.encoding.side_files import SIDE_FILES, foreign_side_file
from tracer.tracefile.format import APPLICATION_ID, CREATE_TABLES, META_DIGEST, PAGE_SIZE, SCHEMA_VERSION
from tracer.version import __version__


def check_place(path: Path, *, force: bool) -> bool:
    """Refuse a place where no trace can be created.

    Args:
        path: the file to create.
        force: whether to replace an existing file.

    Returns:
        Whether there is a file to be replaced.

    Raises:
        OutputError: the file exists and ``force`` is not set, is in use, or cannot be written.
    """
    replacing = check_target(path, force=force, side_file=max(SIDE_FILES, key=len))
    if replacing:
        with _as_output_error(path):
            _settle_old(Path(os.path.realpath(path)))
    return replacing


def create_database(path: Path, *, force: bool) -> sqlite3.Connection:
    """Create an empty trace and open it for writing, one transaction at a time.

    An old file is replaced only after the new one has been written beside it.

    Args:
        path: the file to create.
        force: whether to replace an existing file.

    Raises:
        OutputError: the file exists and ``force`` is not set, is in use, or cannot be written.
    """
    replacing = check_target(path, force=force, side_file=max(SIDE_FILES, key=len))
    with _as_output_error(path):
        if replacing:
            _replace(path)
        else:
            _build_new(path)
        return open_for_writing(path)


def _build_new(path: Path) -> None:
    # Creating the file exclusively decides between two programs that start at once.
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
    try:
        _remove_side_files(path)
        _build(path)
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def _replace(path: Path) -> None:
    target = Path(os.path.realpath(path))  # behind a link, the file is replaced and the link stays
    fresh = target.with_name(beside(target, f".{os.getpid()}.new"))
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    try:
        _build(fresh)
        _settle_old(target)
        # Before the replacement: SQLite would take an old log beside a new database for its own.
        _remove_side_files(target)
        fresh.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
            _remove_side_files(fresh)
        raise


def _settle_old(path: Path) -> None:
    """Merge an old trace's log into it, which also shows whether another program has it open.

    Raises:
        OutputError: it is in use.
    """
    if not path.exists() or foreign_side_file(path):
        return
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise OutputError(
                f"cannot replace {shown(path)}: another program is writing or showing it"
            ) from None
    except (sqlite3.DatabaseError, UnicodeError):
        pass  # some other file, which the user asked to replace
    finally:
        connection.close()


def _build(path: Path) -> None:
    """Write an empty trace entirely into the main file: from here on, a kill leaves a readable trace.

    This does not wait for the disk; switching to a log right afterwards does (:func:`open_for_writing`).
    """
    columns = {
        name: [[column, letters] for column, _, letters in kind.columns]
        for name, kind in (("scores", SCORES), ("modules", MODULES), ("cache", CACHE))
    }
    meta = {
        "product": "trace-generate",
        "version": __version__,
        "created_at": utc_now(),
        "columns": json.dumps(columns),
    }
    meta[META_DIGEST] = meta_digest(SCHEMA_VERSION, meta)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA auto_vacuum=NONE")
        connection.execute(f"PRAGMA page_size={PAGE_SIZE}")
        connection.execute("PRAGMA encoding='UTF-8'")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        for statement in CREATE_TABLES.values():
            connection.execute(statement)
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        connection.execute("COMMIT")
    finally:
        connection.close()


def open_for_writing(path: Path) -> sqlite3.Connection:
    """A connection to an existing trace that writes a log of its own beside it.

    Args:
        path: the trace.
    """
    # The thread that writes is not the one that opens; only one of them uses the connection at a time.
    connection = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    try:
        # A write-ahead log lets readers read meanwhile. On a file system without support for it (some
        # network folders), SQLite keeps its rollback journal, which is as safe against a kill.
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        # Survives a kill at any moment; after a power cut the last steps may be missing, nothing is torn.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA secure_delete=OFF").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _remove_side_files(path: Path) -> None:
    for suffix in SIDE_FILES:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()


@contextlib.contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise exists_already(path) from None
    except (OSError, ValueError, sqlite3.Error) as error:
        raise unwritable(path, error) from None
