"""Serve a recorded run to debuggers."""

from __future__ import annotations

from collections.abc import Callable

import tracer.own_packages  # noqa: F401 - says which file is in the way
from tracer.debugger.address import waiting_lines
from tracer.replay.dap.framing import MessageStream
from tracer.replay.dap.server import Server
from tracer.replay.dap.session import Session
from tracer.replay.stack.sources import Sources
from tracer.replay.travel import Travel
from tracer.tracefile import TraceRun


def serve_replay(run: TraceRun, host: str, port: int, say: Callable[[str], object]) -> None:
    """Serve a run until a client ends the program; a ``KeyboardInterrupt`` does too.

    Args:
        run: the run.
        host: address to listen on.
        port: port to listen on; 0 for a free one.
        say: receives each line for the terminal.

    Raises:
        UsageError: the run has no step, or nothing can listen there.
    """
    travel, sources = Travel(run), Sources(run.header)

    def make_session(stream: MessageStream, cut_off: bool) -> Session:
        # One that was cut off before it began has not left the beginning.
        return Session(stream, travel, sources, resumed=cut_off and travel.position != travel.timeline.first)

    server = Server(host, port, make_session, say)
    for line in waiting_lines(host, server.port):
        say(line)
    server.serve()
