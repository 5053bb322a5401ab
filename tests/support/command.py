"""Run the real command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
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
