"""Python processes that have torch and transformers without importing them.

To import them takes longer than what most tests start a process for. These are forked by one that has
imported them and has done nothing else (``preparing.py``); everything but the imports is as in any other. A
test of the start itself, of what is imported or of memory starts one with :class:`subprocess.Popen`.
"""

from __future__ import annotations

import atexit
import functools
import os
import pickle
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.command import environment
from tests.support.preparing import NUMBER, Order

_ROOT = Path(__file__).parents[2]


@functools.cache
def _orders() -> socket.socket:
    """Where orders go. The process that takes them ends with this one."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-c", "from tests.support.preparing import main; main()", str(its.fileno())],
        cwd=_ROOT,
        env=environment(PYTHONPATH=os.pathsep.join(sys.path)),
        stdin=subprocess.DEVNULL,
        pass_fds=[its.fileno()],
    )
    its.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


class PreparedProcess(subprocess.Popen[Any]):
    """A :class:`subprocess.Popen` whose command is Python itself."""

    def _execute_child(
        self,
        args: Sequence[str | Path],
        executable: object,
        preexec_fn: Callable[[], object] | None,
        close_fds: object,
        pass_fds: object,
        cwd: str | Path | None,
        env: Mapping[str, str] | None,
        *more: Any,
    ) -> None:
        # Behind three that are for Windows: both ends of the pipes; near the end, whether it leads a session.
        pipes, leads = more[3:9], more[14]
        said, its = os.pipe()
        arguments, folder = tuple(map(str, args))[1:], str(cwd or Path.cwd())
        order = Order(arguments, folder, dict(env or os.environ), leads, preexec_fn)
        ends = (end if end >= 0 else usual for usual, end in enumerate((pipes[0], pipes[3], pipes[5])))
        socket.send_fds(_orders(), [pickle.dumps(order)], [*ends, its])
        os.close(its)
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]
        self._said = said
        (self.pid,) = NUMBER.unpack(os.read(said, NUMBER.size))
        self._child_created = True

    def _internal_poll(self, *_args: object, **_options: object) -> int | None:
        return self._ended(0)

    def _wait(self, timeout: float | None) -> int:
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def _ended(self, seconds: float | None) -> int | None:
        """Its exit code, once it is known."""
        if self.returncode is None and select.select([self._said], [], [], seconds)[0]:
            (status,) = NUMBER.unpack(os.read(self._said, NUMBER.size))
            os.close(self._said)
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode
