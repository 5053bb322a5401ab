"""The real command in a pseudo-terminal, typed at like a person does."""

from __future__ import annotations

import fcntl
import functools
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from pathlib import Path

from tests.support.command import environment
from tests.support.prepared import PreparedProcess

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[=>]|\r")


class Typed:
    """A command in a terminal of its own."""

    def __init__(self, *arguments: str | Path, home: Path) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        variables = {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "XDG_STATE_HOME": str(home)}
        self._process = PreparedProcess(
            [sys.executable, "-m", "tracer", *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(**variables),
            start_new_session=True,
            preexec_fn=functools.partial(fcntl.ioctl, 0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self._terminal = ours
        self.text = ""
        self._seen = 0

    def send(self, keys: str) -> None:
        """Type."""
        os.write(self._terminal, keys.encode())

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """Read until a text comes that was not waited for before; what came up to it."""
        deadline = time.monotonic() + seconds
        while text not in self.text[self._seen :]:
            if not self._read(deadline):
                raise AssertionError(f"{text!r} did not come:\n{self.text[-3000:]}")
        end = self.text.index(text, self._seen) + len(text)
        part, self._seen = self.text[self._seen : end], end
        return part

    def end(self, seconds: float = 60) -> int:
        """Read to the end and give the exit code."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        return self._process.wait(timeout=max(1.0, deadline - time.monotonic()))

    def close(self) -> None:
        """End the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._terminal)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))
        try:
            data = os.read(self._terminal, 65536) if ready else b""
        except OSError:  # the other side was closed
            return False
        self.text += _CONTROL.sub("", data.decode("utf-8", "replace"))
        return bool(data)
