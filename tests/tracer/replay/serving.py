"""A recording that is served to debuggers inside the test's own process."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.tracer.debugger.client import TIMEOUT, DebugClient
from tracer.debugger.address import LOOPBACK
from tracer.replay.replaying import serve_replay
from tracer.tracefile import TraceFile


class Served:
    """A recording while it is served.

    Attributes:
        port: where.
        said: the lines for the terminal.
    """

    def __init__(self, path: Path) -> None:
        self.said: queue.Queue[str] = queue.Queue()
        self._path = path
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self.port = int(self.line().rpartition(":")[2])
        self.line()

    def line(self) -> str:
        """The next line for the terminal."""
        return self.said.get(timeout=TIMEOUT)

    def attach(self) -> DebugClient:
        """A client that has attached; it stands at the first stop."""
        client = DebugClient(self.port)
        client.attach()
        return client

    def end(self) -> None:
        """End it, as a client that terminates the program does."""
        with DebugClient.patient(self.port) as client:
            client.request("terminate")
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        with TraceFile(self._path) as recording:
            serve_replay(recording.run(), LOOPBACK, 0, self.said.put)


@contextmanager
def served(path: Path) -> Iterator[Served]:
    """Serve a recording as long as the block lasts, in which all clients have to leave."""
    serving = Served(path)
    try:
        yield serving
    finally:
        serving.end()
