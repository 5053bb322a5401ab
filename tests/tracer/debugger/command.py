"""A traced generation in a process of its own that a debugger may attach to."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.command import environment
from tests.tracer.debugger.client import TIMEOUT

ROOT = Path(__file__).parents[3]


class AttachedCommand:
    """``trace-generate --attach``, or another module that attaches, while it runs.

    Args:
        arguments: of the module.
        module: which.
        start: what starts it.

    Attributes:
        port: where it listens, once :meth:`listening` returned.
    """

    def __init__(
        self,
        *arguments: str | Path,
        module: str = "tracer",
        start: type[subprocess.Popen[Any]] = subprocess.Popen,
    ) -> None:
        self._process = start(
            [sys.executable, "-u", "-m", module, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            cwd=ROOT,
            text=True,
            encoding="utf-8",
        )
        self.port = 0
        self._errors: list[str] = []
        self._printed: list[str] = []
        self._changed = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stderr, self._errors), daemon=True),
            threading.Thread(target=self._read, args=(self._process.stdout, self._printed), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> AttachedCommand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(TIMEOUT)

    @property
    def stderr(self) -> str:
        """What it complained about so far."""
        return "".join(self._errors)

    @property
    def stdout(self) -> str:
        """What it printed so far."""
        return "".join(self._printed)

    def listening(self) -> int:
        """Wait until it listens; the port."""
        found = self.said(r"Waiting for debugger attach on localhost:(\d+)")
        self.port = int(found[1])
        return self.port

    def said(self, pattern: str) -> re.Match[str]:
        """Wait for a line on standard error."""
        with self._changed:
            heard = self._changed.wait_for(
                lambda: re.search(pattern, self.stderr) or self._process.poll() is not None, TIMEOUT
            )
        found = re.search(pattern, self.stderr)
        assert heard, f"not within {TIMEOUT} s: {pattern}\n{self.stderr}"
        assert found, self.stderr
        return found

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        code = self._process.wait(TIMEOUT)
        for reader in self._readers:
            reader.join(TIMEOUT)
        return code

    def answer(self) -> dict[str, Any]:
        """Wait for a good end and return what ``--json`` printed."""
        assert self.wait() == 0, self.stderr
        answer: dict[str, Any] = json.loads(self.stdout)
        return answer

    def _read(self, stream: Any, into: list[str]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    into.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()
