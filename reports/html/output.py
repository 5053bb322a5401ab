"""Put a page where it belongs: whole or not at all, and never over another file unasked."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from reports.view.text import plain
from tracer.errors import OutputError


def check_target(path: Path, *, force: bool) -> None:
    """Refuse a place that :func:`write_page` would refuse, before any work is done for it.

    Args:
        path: where to.
        force: replace an existing file.

    Raises:
        OutputError: the file exists and ``force`` is not set, or there is no such folder.
    """
    name = plain(str(path))
    if path.is_dir():
        raise OutputError(f"cannot write {name}: it is a folder")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {name}: there is no folder {plain(str(path.parent))}")
    if os.path.lexists(path) and not force:
        raise OutputError(f"{name} exists already; choose another name or add --force to replace it")


def write_page(path: Path, page: str, *, force: bool = False) -> None:
    """Write a page beside its place and move it there.

    Args:
        path: where to.
        page: the page.
        force: replace an existing file.

    Raises:
        OutputError: the file exists and ``force`` is not set, or it cannot be written.
    """
    check_target(path, force=force)
    target = Path(os.path.realpath(path))  # behind a link, the file is replaced and the link stays
    fresh = target.with_name(f".{target.name[:100]}.{os.getpid()}.new")
    try:
        fresh.write_text(page, encoding="utf-8")
        if force:
            fresh.replace(target)
        else:
            os.link(fresh, target)  # unlike a rename it fails where a file has appeared in the meantime
    except OSError as error:
        raise OutputError(f"cannot write {plain(str(path))}: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink()
