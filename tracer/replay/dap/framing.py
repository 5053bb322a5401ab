"""Messages over a connection: JSON behind a header that says its length."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any, BinaryIO, Protocol

from tracer.messages import one_line

MAX_HEADER, MAX_BODY = 1 << 12, 1 << 24
"""Bytes of a header and of a body, at most."""

_HEADERS = (b"content-length", b"content-type")


class FramingError(Exception):
    """What arrived is no message of the protocol, so that nothing behind it can be found either."""


class ContentError(Exception):
    """A message that is no JSON object; the next one can be read."""


class Writable(Protocol):
    """Where bytes go."""

    def sendall(self, data: bytes, /) -> None:
        """Send all of it."""


class MessageStream:
    """Reads and writes messages.

    Args:
        source: where bytes come from.
        target: where they go.
    """

    def __init__(self, source: BinaryIO, target: Writable) -> None:
        self._source = source
        self._target = target
        self._sent = 0
        self._lock = threading.Lock()

    def read(self) -> dict[str, Any] | None:
        """The next message; None at the end of the connection.

        Raises:
            FramingError: no message can be found in what arrives.
            ContentError: the message is no JSON object.
        """
        length = self._header()
        if length is None:
            return None
        body = self._source.read(length)
        if len(body) < length:
            return None
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            raise ContentError("a message that is no JSON") from None
        if not isinstance(message, dict):
            raise ContentError(f"a message that is no JSON object: {one_line(message, 60)}")
        return message

    def write(self, message: Mapping[str, Any]) -> None:
        """Send a message, numbered.

        Raises:
            OSError: the connection is gone.
        """
        with self._lock:
            self._sent += 1
            body = json.dumps({"seq": self._sent, **message}, ensure_ascii=True).encode()
            self._target.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def _header(self) -> int | None:
        """The length in the header; None at the end of the connection.

        Any other header than the protocol's two is refused: a browser that is made to post here sends others.
        """
        length: int | None = None
        taken = 0
        while True:
            line = self._source.readline(MAX_HEADER)
            taken += len(line)
            if len(line) < MAX_HEADER and not line.endswith(b"\n"):
                return None
            if not line.strip() and length is not None:
                return length
            name, _, value = line.partition(b":")
            if taken > MAX_HEADER or name.strip().lower() not in _HEADERS:
                raise FramingError(
                    f"no message of the protocol: {one_line(line[:60].decode('latin-1').strip(), 60)}"
                )
            if name.strip().lower() == b"content-length":
                length = _length(value.strip())


def _length(text: bytes) -> int:
    if not text.isdigit() or len(text) > 9 or int(text) > MAX_BODY:
        raise FramingError(f"a message of {one_line(text.decode('latin-1'), 20)} bytes")
    return int(text)
