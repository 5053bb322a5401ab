"""The client at the other end of a connection: answers and events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from tracer.replay.dap.framing import MessageStream

Category = Literal["console", "stdout", "important"]
"""Where a client shows a text: as a remark of the debugger, or as output of the program."""


class Client:
    """Sends answers and events.

    Args:
        stream: the connection.
    """

    def __init__(self, stream: MessageStream) -> None:
        self._stream = stream

    def answer(self, request: Mapping[str, Any], body: Mapping[str, Any] | None) -> None:
        """Answer a request that succeeded."""
        self._stream.write({**_answer_to(request), "success": True, "body": dict(body or {})})

    def refuse(self, request: Mapping[str, Any], message: str) -> None:
        """Answer a request that failed.

        Args:
            request: the request.
            message: why, in one line.
        """
        error = {"id": 1, "format": "{message}", "variables": {"message": message}, "showUser": False}
        self._stream.write(
            {**_answer_to(request), "success": False, "message": message, "body": {"error": error}}
        )

    def event(self, name: str, body: Mapping[str, Any] | None = None) -> None:
        """Send an event."""
        self._stream.write({"type": "event", "event": name, "body": dict(body or {})})

    def output(self, text: str, category: Category = "console") -> None:
        """Print into the client's debug console."""
        self.event("output", {"category": category, "output": text if text.endswith("\n") else f"{text}\n"})


def _answer_to(request: Mapping[str, Any]) -> dict[str, Any]:
    number, command = request.get("seq"), request.get("command")
    return {
        "type": "response",
        "request_seq": number if isinstance(number, int) else 0,
        "command": command if isinstance(command, str) else "",
    }
