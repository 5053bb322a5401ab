"""What a debugger costs that has left: ``python -m tests.benchmarks.attached``, with nothing else running.

A debugger attaches and leaves before the first step. Then traced runs take turns
(:mod:`tests.benchmarks.turns`): without a stop handler and with no trace function at all, and with the
debugger that has left.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from pathlib import Path

from tests.benchmarks.demo import demo_subject
from tests.benchmarks.models import Inputs, Subject
from tests.benchmarks.turns import Lane, compare
from tests.benchmarks.watchers import nothing
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


def traced_runs(
    subject: Subject, inputs: Inputs, new: int, stop_handler: AttachedDebugger | None, path: Path
) -> Lane:
    """A traced run a turn."""
    import pydevd  # on the path once debugpy's server is loaded

    debugger = pydevd.get_global_debugger()

    def turn() -> None:
        path.unlink(missing_ok=True)
        if stop_handler is None:
            debugger.disable_tracing()
        with trace(subject.model, path=path, halt=stop_handler):
            subject.generate(inputs, new)
        debugger.enable_tracing()

    return Lane(turn, nothing)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=90, help="for all runs (default 90)")
    parser.add_argument("--new", type=int, default=16, help="tokens a run (default 16)")
    arguments = parser.parse_args()
    subject = demo_subject()
    inputs = subject.inputs(1, 30)
    stop_handler = attached_and_left()
    with tempfile.TemporaryDirectory() as folder:
        without, left, again = (
            traced_runs(subject, inputs, arguments.new, handler, Path(folder) / f"{number}.trace")
            for number, handler in enumerate([None, stop_handler, None])
        )
        ways = {"no debugger": again, "once the debugger has left": left}
        for found in compare(without, ways, seconds=arguments.seconds):
            print(found)  # noqa: T201


if __name__ == "__main__":
    main()
