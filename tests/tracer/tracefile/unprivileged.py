"""Run a piece of Python that respects file permissions, which root does not."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
NOBODY = 65534


def run_unprivileged(code: str, *arguments: Path) -> str:
    """Output of the code, errors included; ``sys.argv[1:]`` are the arguments.

    As root, another user runs it; the folders that lead to the arguments are opened to everyone.
    """
    if os.geteuid() == 0:
        for argument in arguments:
            for parent in argument.parents:
                if parent.stat().st_uid == 0 and parent.is_relative_to(tempfile.gettempdir()):
                    parent.chmod(parent.stat().st_mode | 0o055)
        code = f"import os; os.setgid({NOBODY}); os.setuid({NOBODY})\n{code}"
    # Imports come first: the other user may not be able to read the installation.
    code = f"import sys, numpy; from tests.tracer.tracefile import samples; import tracer.tracefile\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        timeout=60,
    )
    return done.stdout + done.stderr
