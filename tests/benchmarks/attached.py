"""What a debugger costs that has left: ``python -m tests.benchmarks.attached``, with nothing else running.

A debugger attaches and leaves before the first step. Then runs are traced in alternating pairs: without a
stop handler and with no trace function at all, and with the debugger that has left. Ratios as in
:mod:`tests.benchmarks.overhead`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.models import Subject, demo_subject
from tests.tracer.debugger.client import DebugClient
from tracer import trace
from tracer.debugger import AttachedDebugger, attach


def attached_and_left() -> AttachedDebugger:
    """Let a debugger attach, and leave."""

    def visit(port: int) -> None:
        with DebugClient(port) as client:
            client.attach()
            client.disconnect()

    visits: list[threading.Thread] = []

    def come(line: str) -> None:
        if line.startswith("Waiting"):
            visits.append(threading.Thread(target=visit, args=(int(line.rpartition(":")[2]),)))
            visits[0].start()

    stop_handler = attach(port=0, wait=60, say=come)
    visits[0].join()
    return stop_handler


def timed(
    subject: Subject, inputs: Any, new: int, stop_handler: AttachedDebugger | None, path: Path
) -> float:
    """Seconds of one traced run."""
    import pydevd  # on the path once debugpy's server is loaded

    path.unlink(missing_ok=True)
    debugger = pydevd.get_global_debugger()
    if stop_handler is None:
        debugger.disable_tracing()
    began = time.perf_counter()
    with trace(subject.model, path=path, halt=stop_handler):
        subject.generate(inputs, new)
    seconds = time.perf_counter() - began
    debugger.enable_tracing()
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7, help="alternating pairs (default 7)")
    parser.add_argument("--new", type=int, default=64, help="tokens a run (default 64)")
    arguments = parser.parse_args()
    subject = demo_subject()
    inputs = subject.inputs(1, 30)
    stop_handler = attached_and_left()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.trace"
        for _ in range(arguments.pairs + 1):
            without = timed(subject, inputs, arguments.new, None, path)
            ratios.append(timed(subject, inputs, arguments.new, stop_handler, path) / without)
    ratios = ratios[1:]
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    print(f"{statistics.median(ratios):6.3f}  ({spread})  once the debugger has left")  # noqa: T201


if __name__ == "__main__":
    main()
