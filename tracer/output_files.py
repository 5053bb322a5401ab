"""Output files that appear whole or not at all, and never over another file unasked."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tracer.errors import OutputError
from tracer.messages import reason, shown


def check_target(path: Path, *, force: bool) -> bool:
    """Refuse a place that cannot be written to, before any work is done for it.

    Args:
        path: where to.
        force: replace an existing file.

    Returns:
        Whether there is a file to be replaced.

    Raises:
        OutputError: the file exists and ``force`` is not set, it is no ordinary file (a folder, a device), or
            there is no such folder.
    """
    try:
        status = path.stat() if path.exists() else path.lstat()
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise OutputError(
                f"cannot write {shown(path)}: there is no folder {shown(path.parent)}"
            ) from None
        return False
    except (OSError, ValueError) as error:  # ValueError: a name that no file system takes
        raise unwritable(path, error) from None
    if stat.S_ISDIR(status.st_mode):
        raise OutputError(f"cannot write {shown(path)}: it is a folder")
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        raise OutputError(f"cannot write {shown(path)}: it is not an ordinary file")
    if not force:
        raise exists_already(path)
    return True


def exists_already(path: Path) -> OutputError:
    """The error for an output file that exists and may not be replaced."""
    return OutputError(f"{shown(path)} exists already; choose another name or add --force to replace it")


def unwritable(path: Path, error: BaseException) -> OutputError:
    """The error for an output file that cannot be written.

    Args:
        path: the file as the user named it.
        error: the fault.
    """
    return OutputError(f"cannot write {shown(path)}: {reason(error)}")


@contextlib.contextmanager
def new_file(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """A file that is written beside its place and moved there when it is whole.

    Args:
        path: where it shall be.
        force: replace an existing file.

    Raises:
        OutputError: see :func:`check_target`; or it cannot be written.
    """
    check_target(path, force=force)
    target = Path(os.path.realpath(path))  # behind a link, the file is replaced and the link stays
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
            fresh = Path(name)
            fresh.chmod(0o666 & ~_umask())
            if not force:
                _reserve(target, path)
            fresh.replace(target)
        finally:
            with contextlib.suppress(OSError):
                Path(name).unlink()
    except OSError as error:
        raise unwritable(path, error) from error


def write_text(path: Path, text: str, *, force: bool = False) -> None:
    """Write a text in UTF-8 to a new file (see :func:`new_file`).

    Args:
        path: where it shall be.
        text: what it shall hold.
        force: replace an existing file.

    Raises:
        OutputError: see :func:`new_file`.
    """
    with new_file(path, force=force) as file:
        file.write(text.encode("utf-8"))


def _reserve(target: Path, path: Path) -> None:
    """Take the name, which fails where a file has appeared in the meantime.

    A hard link would take it with the contents at once, but many network and FAT file systems have none.
    """
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        raise exists_already(path) from None


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
