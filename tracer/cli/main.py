"""Entry point: what has to be in place before anything that takes time is imported."""

from __future__ import annotations

import os
import sys

try:
    from tracer.cli.starting_line import StartingLine
    from tracer.interrupts import Interrupts
except KeyboardInterrupt:  # the handler that says it is not in place yet
    os.write(2, b"trace-generate: interrupted\n")
    os._exit(130)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code.

    Args:
        arguments: instead of ``sys.argv[1:]``.
    """
    given = sys.argv[1:] if arguments is None else arguments
    with Interrupts(at_once=True) as interrupts:
        line = StartingLine()
        line.show(given)
        from tracer.cli.program import run

        code = run(given, interrupts, line)
        if arguments is None:
            # What is left is Python's own shutdown, where an exception could only be printed.
            interrupts.end_at_once()
    sys.exit(code)
