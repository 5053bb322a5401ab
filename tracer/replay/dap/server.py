"""Listens for debuggers, and serves one at a time."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Protocol

from tracer.errors import UsageError
from tracer.messages import named, one_line, reason
from tracer.replay.dap.client import Client
from tracer.replay.dap.framing import ContentError, FramingError, MessageStream

_REFUSAL_SECONDS = 5.0
"""How long a second debugger has time to say hello, to be told that there is one already."""

_GRACE = 1.0
"""Seconds in which the session of a client that has gone ends."""

TAKEN = "another debugger is attached to this recording; detach it first"


class OneSession(Protocol):
    """The session of a client."""

    began: bool
    left: bool
    ended: bool

    def serve(self) -> None:
        """Answer the client until it goes."""


class Server:
    """A socket that debuggers attach to.

    Args:
        host: address to listen on.
        port: port to listen on; 0 for a free one.
        make_session: makes the session of a client; the second argument says whether the client before was
            cut off, so that this one may go on.
        say: receives each line for the terminal.

    Attributes:
        port: port that it listens on.

    Raises:
        UsageError: it cannot listen there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        make_session: Callable[[MessageStream, bool], OneSession],
        say: Callable[[str], object],
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family)
        self._make_session = make_session
        self._say = say
        self._busy = threading.Lock()
        self._ended = threading.Event()
        self._cut_off = False
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((host, port))
            self._listener.listen()
        except OSError as error:
            self._listener.close()
            raise UsageError(
                f"Cannot listen on {host}:{port}: {reason(error)}; choose another --port."
            ) from None
        self.port: int = self._listener.getsockname()[1]

    def serve(self) -> None:
        """Serve clients until one ends the program; a ``KeyboardInterrupt`` does too."""
        # A blocking accept would not notice the end that a session asks for.
        self._listener.settimeout(0.2)
        try:
            while not self._ended.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = self._listener.accept()
                    self._receive(connection)
        finally:
            self._listener.close()

    def _receive(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self._attend_or_refuse, args=(connection,), daemon=True).start()

    def _attend_or_refuse(self, connection: socket.socket) -> None:
        # A client that attaches again at once is faster than the end of its session here.
        if self._busy.acquire(timeout=2 * _GRACE):
            self._attend(connection)
        else:
            _refuse(connection)

    def _attend(self, connection: socket.socket) -> None:
        self._say("Debugger attached.")
        session, why = None, ""
        try:
            with connection, connection.makefile("rb") as source:
                session = self._make_session(MessageStream(source, connection), self._cut_off)
                session.serve()
                _take_leave(connection)
        except FramingError as error:
            why = f": it sent {error}"
        except OSError as error:
            why = f": {one_line(reason(error))}"
        except Exception as error:  # noqa: BLE001 - the next client is served all the same
            why = f": a defect of trace-generate, {named(error)}"
        finally:
            left = session is not None and session.left
            if session is not None and session.began:
                self._cut_off = not left
            words = "Debugger detached." if left else f"The debugger was cut off{why}; attach again to go on."
            self._say(words)
            self._busy.release()
            if session is not None and session.ended:
                self._ended.set()


def _take_leave(connection: socket.socket) -> None:
    """End a connection so that the client gets all that was sent; what it still sends is read a moment."""
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(_GRACE)
    with contextlib.suppress(TimeoutError):
        while connection.recv(1 << 12):
            pass


def _refuse(connection: socket.socket) -> None:
    """Tell a second debugger that there is one already."""
    connection.settimeout(_REFUSAL_SECONDS)
    with (
        contextlib.suppress(OSError, FramingError, ContentError),
        connection,
        connection.makefile("rb") as source,
    ):
        stream = MessageStream(source, connection)
        message = stream.read()
        if message is not None:
            Client(stream).refuse(message, TAKEN)
