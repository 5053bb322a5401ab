"""A small client of the Debug Adapter Protocol."""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

TIMEOUT = 120.0
"""Seconds to wait for anything; a test that hangs longer has failed."""


@dataclass(frozen=True)
class Halted:
    """A thread that stands still.

    Attributes:
        thread: its id.
        frame: id of its innermost frame.
        path: source file of that frame.
        line: the line about to run.
        function: name of the function.
    """

    thread: int
    frame: int
    path: Path
    line: int
    function: str


class DebugClient:
    """Speaks to a debug adapter over a socket: each message is JSON behind a ``Content-Length`` header."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection((host, port), timeout=TIMEOUT)
        # Only connecting may time out here; later waits have limits of their own.
        self._socket.settimeout(None)
        self._stream = self._socket.makefile("rb")
        self._numbers = itertools.count(1)
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._waiting: list[dict[str, Any]] = []
        self.output: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @classmethod
    def patient(cls, port: int) -> DebugClient:
        """Connect to a port that will soon be listened on."""
        deadline = time.monotonic() + TIMEOUT
        while (client := cls._connected(port)) is None:
            assert time.monotonic() < deadline, f"nobody listens on port {port}"
            time.sleep(0.05)
        return client

    @classmethod
    def _connected(cls, port: int) -> DebugClient | None:
        with contextlib.suppress(ConnectionRefusedError):
            return cls(port)
        return None

    def __enter__(self) -> DebugClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection without a word, as a client that dies does."""
        with contextlib.suppress(OSError):  # the other side was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(TIMEOUT)
        self._stream.close()
        self._socket.close()

    def attach(
        self,
        breakpoints: Mapping[Path, list[int]] | None = None,
        *,
        styled: bool = False,
        **options: Any,
    ) -> None:
        """Go through the handshake up to ``configurationDone``.

        Args:
            breakpoints: lines by file, which the client sets on its own.
            styled: say that the client shows colours.
            options: of the attach request; by default ``justMyCode`` is off.
        """
        self.request(
            "initialize",
            adapterID="debugpy",
            pathFormat="path",
            linesStartAt1=True,
            supportsANSIStyling=styled,
        )
        attached = self.send("attach", **{"justMyCode": False, **options})
        self.event("initialized")
        for path, lines in (breakpoints or {}).items():
            self.set_breakpoints(path, lines)
        self.request("configurationDone")
        self._response(attached)

    def set_breakpoints(self, path: Path, lines: list[int], **more: Any) -> None:
        """Set the client's own breakpoints of a file, which replaces those it had there."""
        self.request(
            "setBreakpoints",
            source={"path": str(path)},
            breakpoints=[{"line": line, **more} for line in lines],
        )

    def halted(self) -> Halted | None:
        """The next ``stopped`` event with its place; None if the program ended instead."""
        event = self.event("stopped", "terminated")
        if event["event"] == "terminated":
            return None
        thread = event["body"]["threadId"]
        top = self.request("stackTrace", threadId=thread, startFrame=0, levels=1)["stackFrames"][0]
        return Halted(thread, top["id"], Path(top["source"]["path"]), top["line"], top["name"])

    def go_on(self, halted: Halted) -> None:
        """Continue."""
        self.request("continue", threadId=halted.thread)

    def step_in(self, halted: Halted) -> Halted | None:
        """Go on to the next line, in a function that is called first if there is one."""
        self.request("stepIn", threadId=halted.thread)
        return self.halted()

    def evaluate(self, halted: Halted, expression: str) -> str:
        """An expression in the frame that stands still, as the debugger shows it."""
        body = self.request("evaluate", expression=expression, frameId=halted.frame, context="repl")
        return str(body["result"])

    def variables(self, halted: Halted, shown: str = "type") -> dict[str, str]:
        """Names and types (or, as ``value``, texts) of the local variables, by way of the scopes."""
        scopes = self.request("scopes", frameId=halted.frame)["scopes"]
        local = next(scope for scope in scopes if scope["name"] == "Locals")
        found = self.request("variables", variablesReference=local["variablesReference"])["variables"]
        return {each["name"]: each.get(shown, "") for each in found}

    def disconnect(self) -> None:
        """Leave in an orderly way; the program goes on."""
        self.request("disconnect", restart=False, terminateDebuggee=False)

    def send(self, command: str, **arguments: Any) -> int:
        """Send a request and do not wait.

        Returns:
            Its number.
        """
        number = next(self._numbers)
        body = json.dumps({"seq": number, "type": "request", "command": command, "arguments": arguments})
        content = body.encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n" % len(content) + content)
        return number

    def request(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the body of its answer."""
        return self._response(self.send(command, **arguments))

    def refused(self, command: str, **arguments: Any) -> str:
        """Send a request that has to fail, and return the message of the answer."""
        number = self.send(command, **arguments)
        answer = self._next(lambda message: message.get("request_seq") == number)
        assert not answer["success"], answer
        return str(answer["message"])

    def send_bytes(self, data: bytes) -> None:
        """Send bytes that need not be a message."""
        self._socket.sendall(data)

    def event(self, *names: str) -> dict[str, Any]:
        """The next event of one of these names."""
        return self._next(lambda message: message["type"] == "event" and message["event"] in names)

    def _response(self, number: int) -> dict[str, Any]:
        answer = self._next(lambda message: message.get("request_seq") == number)
        assert answer["success"], answer
        return dict(answer.get("body") or {})

    def _next(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        for message in self._waiting:
            if wanted(message):
                self._waiting.remove(message)
                return message
        while True:
            received = self._messages.get(timeout=TIMEOUT)
            assert received is not None, "the debugger closed the connection"
            if wanted(received):
                return received
            self._waiting.append(received)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # closed while reading
            while (message := self._message()) is not None:
                if message["type"] == "event" and message["event"] == "output":
                    self.output.append(message["body"]["output"])
                else:
                    self._messages.put(message)
        self._messages.put(None)

    def _message(self) -> dict[str, Any] | None:
        length = 0
        while line := self._stream.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        content = self._stream.read(length) if length else b""
        return json.loads(content) if content else None
