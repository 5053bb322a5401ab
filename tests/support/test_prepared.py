"""A prepared process against one that Python starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from tests.support.command import environment
from tests.support.prepared import PreparedProcess

PROGRAM = """
import os, signal, sys
print(__name__, sys.argv, sorted(os.environ), os.getcwd(), os.getsid(0) == os.getpid(), input())
print(sorted(os.listdir("/proc/self/fd"))[:-1], sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.errors)
print(*map(signal.getsignal, (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)))
print("é", file=sys.stderr)
sys.exit(3)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("leads", [False, True])
def test_it_finds_what_any_other_finds(tmp_path: Path, leads: bool) -> None:
    script = tmp_path / "script.py"
    script.write_text(PROGRAM, encoding="utf-8")
    options: dict[str, Any] = {"cwd": tmp_path, "env": environment(MINE="1"), "start_new_session": leads}
    found = []
    for start in (subprocess.Popen, PreparedProcess):
        with start(
            [sys.executable, script, "one", "two"], stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True, **options
        ) as process:
            found.append((*process.communicate("given\n", timeout=60), process.returncode))
    assert found[0][-1] == 3
    assert found[1] == found[0]


def test_it_is_waited_for_and_ended_as_any_other() -> None:
    program = [sys.executable, "-u", "-m", "timeit", "-n", "1", "-r", "1", "-s", "print(1)", "input()"]
    with PreparedProcess(program, env=environment(), stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        os.kill(process.pid, 0)
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
        assert process.poll() == -signal.SIGKILL
