"""Standard input, output and error as a command needs them, whatever it was started with."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import sys
from typing import TextIO

_OUTPUT_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.ENXIO})
"""The device is full, the file too large, the terminal gone, the descriptor closed."""

_HANDLER = "tracer.cli"
"""Name of the error handler for characters that an output's encoding lacks."""


def open_closed_streams() -> frozenset[int]:
    """Open the null device in place of standard streams that are closed.

    The next file that is opened would take the free number, and what is printed would go into it.

    Returns:
        The numbers of the streams that were closed.
    """
    closed = frozenset(number for number in range(3) if _is_closed(number))
    for number in sorted(closed):
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        name = ("stdin", "stdout", "stderr")[number]
        setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    return closed


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


def print_anything() -> None:
    """Let standard output and error take any text: a path's own bytes as they are, the rest as escapes."""
    codecs.register_error(_HANDLER, _encoded)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=_HANDLER)


def _encoded(error: UnicodeError) -> tuple[str | bytes, int]:
    """What replaces characters that cannot be encoded."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    # Python reads bytes that are no text, in a path, as these; anything else has no bytes of its own.
    if all("\udc80" <= char <= "\udcff" for char in text):
        return os.fsencode(text), error.end
    return text.encode("ascii", "backslashreplace"), error.end


def is_output_fault(error: OSError) -> bool:
    """Whether an error says that standard output takes nothing any more.

    Args:
        error: one that nothing else has explained; those of other files name the file.
    """
    return error.filename is None and error.errno in _OUTPUT_FAULTS


def discard_output() -> None:
    """Send standard output, and what waits in its buffer, nowhere: its reader or device is gone."""
    _discard(sys.stdout)


def flush_or_discard() -> None:
    """Write out what waits for standard output and error; what they do not take goes nowhere.

    Python's own shutdown would try again, and end with an exit code of its own (120).
    """
    _flush_or_discard(sys.stdout)
    _flush_or_discard(sys.stderr)


def _flush_or_discard(stream: TextIO) -> None:
    try:
        stream.flush()
    except (OSError, ValueError):
        _discard(stream)


def _discard(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()
