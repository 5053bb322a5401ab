"""A terminal that a command has changed is put back, unless the command runs in the background."""

from __future__ import annotations

import os
import subprocess
import sys
import termios

import pytest

from tests.support.command import environment

# The moment that a prompt cannot clean up after: the terminal is raw, and nobody else remembers how it was.
RESTORED = """
import fcntl, os, signal, sys, termios, tty
from tracer.cli.terminal_state import TerminalState
if "controlling" in sys.argv:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
state = TerminalState()
tty.setraw(0)
if "background" in sys.argv:
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    other = os.fork()
    if not other:
        signal.pause()
    os.setpgid(other, other)
    os.tcsetpgrp(0, other)
state.restore()
if "background" in sys.argv:
    os.kill(other, signal.SIGKILL)
"""


def local_modes(*how: str) -> tuple[int, int]:
    """The local modes of a terminal before and after."""
    ours, its = os.openpty()
    try:
        before = termios.tcgetattr(ours)[3]
        subprocess.run(
            [sys.executable, "-c", RESTORED, *how],
            stdin=its,
            env=environment(PYTHONPATH=os.pathsep.join(sys.path)),
            start_new_session=True,
            timeout=60,
            check=True,
        )
        return before, termios.tcgetattr(ours)[3]
    finally:
        os.close(its)
        os.close(ours)


@pytest.mark.parametrize("how", [(), ("controlling",)], ids=["of nobody", "controlling"])
def test_it_is_put_back(how: tuple[str, ...]) -> None:
    before, after = local_modes(*how)
    assert after == before


def test_a_job_in_the_background_leaves_it() -> None:
    before, after = local_modes("controlling", "background")
    assert after != before
