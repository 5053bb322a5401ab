"""Write an output file beside its place and move it there when it is whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tracer.errors import OutputError


@contextlib.contextmanager
def new_file(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """A file that appears complete or not at all.

    Args:
        path: where it shall be.
        force: replace an existing file.

    Raises:
        OutputError: it exists already, or cannot be written.
    """
    _refuse_existing(path, force=force)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        fresh.chmod(0o666 & ~_umask())
        # Somebody may have made the file meanwhile.
        _refuse_existing(path, force=force)
        fresh.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink()


def _refuse_existing(path: Path, *, force: bool) -> None:
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file in it.")
    if path.exists() and not force:
        raise OutputError(f"{path} exists already; choose another place, or pass --force to replace it.")


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
