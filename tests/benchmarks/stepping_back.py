"""What a step back in a recording takes: ``python -m tests.benchmarks.stepping_back RUN.trace``.

A client goes to the end of the recording and steps back stop by stop. At each it asks for the stack and the
locals, as an editor does. Printed are the median and the 95th percentile in milliseconds, from the request to
the last answer, and by how much the memory of the process grew after the first fifth of the way.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import psutil

from tests.tracer.debugger.client import DebugClient
from tests.tracer.replay.serving import served

MEGABYTE = 1 << 20


def step_back(client: DebugClient) -> float:
    """Seconds of one step back, with what an editor asks for then."""
    began = time.perf_counter()
    client.request("stepBack", threadId=1)
    client.event("stopped")
    top = client.request("stackTrace", threadId=1)["stackFrames"][0]
    scopes = client.request("scopes", frameId=top["id"])["scopes"]
    client.request("variables", variablesReference=scopes[0]["variablesReference"])
    seconds = time.perf_counter() - began
    client.output.clear()
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path, help="a recording")
    parser.add_argument("--stops", type=int, default=5000, help="stops to go back, at most (default 5000)")
    arguments = parser.parse_args()
    process = psutil.Process()
    with served(arguments.path) as place, place.attach() as client:
        client.event("stopped")
        client.request("continue", threadId=1)
        client.event("stopped")
        seconds, memory = [], []
        for _ in range(arguments.stops):
            seconds.append(step_back(client))
            memory.append(process.memory_info().rss)
        client.disconnect()
    growth = (max(memory[-10:]) - max(memory[: len(memory) // 5])) / MEGABYTE
    median, high = statistics.median(seconds), sorted(seconds)[int(len(seconds) * 0.95)]
    print(f"{1e3 * median:6.1f} ms a stop (95 %: {1e3 * high:.1f} ms), memory {growth:+.1f} MB")  # noqa: T201


if __name__ == "__main__":
    main()
