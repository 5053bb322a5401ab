"""Output files that appear whole or not at all, and never over another file unasked."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tracer.errors import OutputError
from tracer.messages import reason, shown

_DESCRIPTORS = re.compile(r"/dev/fd|/proc/self(/task/\d+)?/fd")
"""Where a process finds its own descriptors, links resolved."""

_MAX_LINKS = 16
"""Links that a name of a descriptor is followed through."""


def check_target(path: Path, *, force: bool, side_file: str = "") -> bool:
    """Refuse a place that no ordinary file can be written to, before any work is done for it.

    Args:
        path: where to.
        force: replace an existing file.
        side_file: the longest ending of a file that is kept beside it, for which its name must leave room.

    Returns:
        Whether there is a file to be replaced.

    Raises:
        OutputError: the file exists and ``force`` is not set, it is no ordinary file (a folder, a device, one
            of this process's own descriptors), or its folder is not there or cannot be written to.
    """
    status = _status(path)
    if side_file:
        _status(path.parent / f"{path.name}{side_file}")
    if status is None:
        _check_folder(path)
        return False
    if stat.S_ISDIR(status.st_mode):
        raise OutputError(f"cannot write {shown(path)}: it is a folder")
    if _descriptor(path) is not None or not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        raise OutputError(f"cannot write {shown(path)}: it is not an ordinary file")
    if not force:
        raise exists_already(path)
    _check_folder(path)
    return True


def check_output(path: Path, *, force: bool) -> None:
    """Refuse a place that :func:`new_file` cannot write to, before any work is done for it.

    Args:
        path: where to.
        force: replace an existing file.

    Raises:
        OutputError: see :func:`check_target`; a pipe and a descriptor of this process are written to.
    """
    if not is_stream(path):
        check_target(path, force=force)


def is_stream(path: Path) -> bool:
    """Whether what is written to a path goes on to somebody: a named pipe, or a name like ``/dev/stdout``."""
    status = _status(path)
    return status is not None and (_descriptor(path) is not None or stat.S_ISFIFO(status.st_mode))


def is_standard_output(path: Path) -> bool:
    """Whether a path is a name of standard output, such as ``/dev/stdout``."""
    return _descriptor(path) == 1


def same_place(a: Path, b: Path) -> bool:
    """Whether two paths, links followed, mean the same file, which need not be there."""
    try:
        return os.path.realpath(a) == os.path.realpath(b)
    except (OSError, ValueError):  # the current folder is gone, or no file system takes the name
        return a == b


def exists_already(path: Path) -> OutputError:
    """The error for an output file that exists and may not be replaced."""
    problem = f"{shown(path)} exists already; choose another name or"
    return OutputError(
        f"{problem} pass force=True to replace it", command_line=f"{problem} add --force to replace it"
    )


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

    A pipe or descriptor (:func:`is_stream`) is written to as it is, and never replaced.

    Args:
        path: where it shall be.
        force: replace an existing file.

    Raises:
        OutputError: see :func:`check_target`; or it cannot be written.
        BrokenPipeError: whoever read from a pipe has gone away.
    """
    with _stream(path) if is_stream(path) else _whole_file(path, force=force) as file:
        yield file


@contextlib.contextmanager
def _whole_file(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    check_target(path, force=force)
    target = Path(os.path.realpath(path))  # behind a link, the file is replaced and the link stays
    try:
        descriptor, name = tempfile.mkstemp(prefix=beside(target, "."), dir=target.parent)
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


@contextlib.contextmanager
def _stream(path: Path) -> Iterator[BinaryIO]:
    try:
        own = _descriptor(path)
        # A descriptor goes on where it is; opening its name again would begin a redirected file anew.
        descriptor = os.open(path, os.O_WRONLY) if own is None else os.dup(own)
        with os.fdopen(descriptor, "wb") as file:
            yield file
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(path, error) from error


def beside(target: Path, end: str) -> str:
    """A hidden name that begins like a file's and leaves room for what makes it unique.

    Args:
        target: the file.
        end: the end of the name.
    """
    # A file system counts bytes, and a character may have four of them.
    return f".{os.fsencode(target.name)[:100].decode(errors='ignore')}{end}"


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


def _status(path: Path) -> os.stat_result | None:
    """What is at a path, behind links where they lead somewhere; None if nothing is."""
    try:
        try:
            return path.stat()
        except OSError:
            return path.lstat()  # a link to nothing, or to itself
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # ValueError: a name that no file system takes
        raise unwritable(path, error) from None


def _check_folder(path: Path) -> None:
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise OutputError(f"cannot write {shown(path)}: there is no folder {shown(folder)}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {shown(path)}: permission denied in the folder {shown(folder)}")


def _descriptor(path: Path) -> int | None:
    """The number of the descriptor of this process that a path names; None if it names none."""
    place = path
    for _ in range(_MAX_LINKS):
        folder = os.path.realpath(place.parent)
        if place.name.isdecimal() and _DESCRIPTORS.fullmatch(folder.replace(f"/{os.getpid()}/", "/self/")):
            return int(place.name)
        if not place.is_symlink():
            break
        place = place.parent / place.readlink()
    return None


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
