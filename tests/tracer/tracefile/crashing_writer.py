"""Writes steps until it is killed and prints the number of each one that has been committed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from tests.tracer.tracefile.samples import header, some_tokens, steps, tensors
from tracer.tracefile import TraceWriter


def main(path: Path, together: int) -> None:
    """Write for ever.

    Args:
        path: the trace.
        together: steps of a transaction.
    """
    first, second = steps(2)
    with TraceWriter(path) as writer:
        writer.begin_run(header())
        number = 0
        while True:
            number += 1
            template = first if number == 1 else second
            step = replace(template, head=template.head.model_copy(update={"step": number}))
            writer.stage_step(step, some_tokens(number % 100), tensors(number) if number % 3 == 0 else {})
            if number % together == 0:
                writer.commit()
                sys.stdout.write(f"{number}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
