"""Run the real command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tracer.cli.main import main

EAGER = ("--attn", "eager")
"""For processes that are not about the attention. With ``sdpa``, Qwen2 asks torch whether it is being
compiled; only to answer, torch imports its compiler, which is half of the time of such a process."""


def environment(**changes: str) -> dict[str, str]:
    """The environment of a child: one thread, no colours, a fixed width."""
    base = {
        name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "PYTHONWARNINGS")
    }
    return base | {
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
        "COLUMNS": "100",
        "HF_HUB_OFFLINE": "1",
        **changes,
    }


def trace_generate(
    *arguments: str | Path,
    cwd: Path | None = None,
    timeout: float = 240,
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``trace-generate`` and wait.

    Args:
        arguments: of the command line.
        cwd: working folder.
        timeout: seconds.
        variables: environment variables to set.
    """
    return subprocess.run(
        [sys.executable, "-m", "tracer", *map(str, arguments)],
        cwd=cwd,
        env=environment(**(variables or {})),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )


HEAVY = ("torch", "transformers", "accelerate", "tokenizers")

_ONE_BY_ONE = """
import io, json, sys
from tracer.cli.main import main

for arguments in json.loads(sys.argv[1]):
    complaints = sys.stderr = io.StringIO()
    try:
        main(arguments)
    except SystemExit as stop:
        code = stop.code or 0
    found = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
    print(end=f"\\0{json.dumps([code, found, complaints.getvalue()])}\\0")
"""


@dataclass(frozen=True)
class Light:
    """A command that was run in a process without torch.

    Attributes:
        code: its exit code.
        imported: those of :data:`HEAVY` that were there when it ended.
        printed: what it printed.
        complaint: what it complained about.
    """

    code: int
    imported: list[str]
    printed: str
    complaint: str


def run_light(commands: Sequence[Sequence[str | Path]], cwd: Path | None = None) -> list[Light]:
    """Run commands one after the other in one process, and look after each at what it has imported."""
    listed = [[*map(str, command)] for command in commands]
    done = subprocess.run(
        [sys.executable, "-c", _ONE_BY_ONE, json.dumps(listed), json.dumps(HEAVY)],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.split("\0")
    assert len(printed) == 2 * len(commands) + 1
    found = []
    for text, ending in zip(printed[::2], printed[1::2], strict=False):
        code, imported, complaint = json.loads(ending)
        found.append(Light(code, imported, text, complaint))
    return found


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        returncode: its exit code.
        stdout: what it printed.
        stderr: what it complained about.
    """

    returncode: int
    stdout: str
    stderr: str


def call_main(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Ended:
    """Run the command line inside this process, which spares the seconds of importing torch again."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    printed = capsys.readouterr()
    return Ended(int(stop.value.code or 0), printed.out, printed.err)
