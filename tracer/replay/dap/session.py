"""A client's session, from the handshake to the farewell."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any

from tracer.messages import one_line
from tracer.replay.dap.arguments import Disconnect, Initialize, NoArguments, SetExceptionBreakpoints
from tracer.replay.dap.breaking import BreakRequests
from tracer.replay.dap.capabilities import CAPABILITIES
from tracer.replay.dap.client import Client
from tracer.replay.dap.framing import ContentError, MessageStream
from tracer.replay.dap.inspection import Inspector
from tracer.replay.dap.moves import Moves
from tracer.replay.dap.requests import Handler, Handlers, Reply, respond
from tracer.replay.ending import ending
from tracer.replay.stack.sources import Sources
from tracer.replay.travel import Travel

_GRACE = 0.5
"""Seconds in which ``configurationDone`` follows the filters, if the client sends it at all."""


class Session:
    """Answers the requests of one client.

    Args:
        stream: the connection.
        travel: the journey, which a later client may go on with.
        sources: source files of the run.
        resumed: go on where a client before was cut off, instead of at the beginning.

    Attributes:
        began: the handshake is over.
        left: the client has said that it goes.
        ended: the client wants the whole program to end.
    """

    def __init__(
        self, stream: MessageStream, travel: Travel, sources: Sources, *, resumed: bool = False
    ) -> None:
        self.began = self.left = self.ended = False
        self._stream = stream
        self._client = Client(stream)
        self._travel = travel
        self._resumed = resumed
        self._attached = False
        # The handshake may end by the clock.
        self._lock = threading.Lock()
        self._inspector = Inspector(travel, sources)
        self._breaks = BreakRequests(travel, sources, self._inspector, self._client)
        self._moves = Moves(travel, sources, self._inspector, self._breaks, self._client)
        self._handlers: Handlers = {
            **self._inspector.handlers(),
            **self._breaks.handlers(),
            **self._moves.handlers(),
            "initialize": Handler(Initialize, self._initialize),
            "attach": Handler(NoArguments, self._attach),
            # Nothing is started: the recording is there. Some clients know no other way to begin.
            "launch": Handler(NoArguments, self._attach),
            "setExceptionBreakpoints": Handler(SetExceptionBreakpoints, self._set_filters),
            "configurationDone": Handler(NoArguments, lambda _: Reply(then=self._begin)),
            "disconnect": Handler(Disconnect, self._disconnect),
            "terminate": Handler(NoArguments, self._terminate),
        }

    def serve(self) -> None:
        """Answer requests until the client goes.

        Raises:
            FramingError: what arrives is no message of the protocol.
            OSError: the connection is gone.
        """
        while not self.left:
            try:
                message = self._stream.read()
            except ContentError as error:
                self._client.output(f"trace-generate: the client sent {error}; it was skipped.", "important")
                continue
            if message is None:
                return
            with self._lock:
                respond(message, self._handlers, self._client)

    def _initialize(self, asked: Initialize) -> Mapping[str, Any]:
        self._inspector.first_line = int(asked.lines_start_at1)
        self._inspector.styled = asked.supports_ansi_styling
        return CAPABILITIES

    def _attach(self, _: NoArguments) -> Reply:
        self._attached = True
        return Reply(then=lambda: self._client.event("initialized"))

    def _set_filters(self, asked: SetExceptionBreakpoints) -> Mapping[str, Any]:
        """Set the filters, with which clients that know no ``configurationDone`` end the handshake."""
        if self._attached and not self.began:
            timer = threading.Timer(_GRACE, self._begin_without_word)
            timer.daemon = True
            timer.start()
        return self._breaks.set_exception_breakpoints(asked)

    def _begin_without_word(self) -> None:
        with self._lock, contextlib.suppress(OSError):  # the client may have gone
            self._begin()

    def _begin(self) -> None:
        """Say what there is, and halt for the first time."""
        if self.began:
            return
        self.began = True
        run, steps = self._travel.moment.run, self._travel.timeline.steps
        self._client.output(
            f"Run {run.number} of {one_line(run.header.model.name)}: steps {steps[0]} to {steps[-1]}. "
            f"{ending(run)} Type help for what can be asked here."
        )
        position = self._travel.position
        if self._resumed:
            self._client.output(f"Back at step {position.step}, where the connection was lost.")
            self._moves.go(lambda: self._travel.go(position, "entry"))
        else:
            self._moves.go(self._travel.begin)

    def _disconnect(self, asked: Disconnect) -> Reply:
        self.left, self.ended = True, asked.terminate_debuggee
        return Reply()

    def _terminate(self, _: NoArguments) -> Reply:
        self.left = self.ended = True
        return Reply(then=lambda: self._client.event("terminated"))
