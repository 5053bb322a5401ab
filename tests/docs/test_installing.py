"""The manual's ways to keep another release of transformers work in an environment with nothing in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.papers import MANUAL, ROOT, blocks
from tests.support.checkpoints import tiny_checkpoint
from tests.support.command import environment
from tests.support.network import missing

WAYS = {
    "uv": next(block for block in blocks(MANUAL, "sh") if "--override" in block),
    "pip": next(block for block in blocks(MANUAL, "sh") if "--no-deps" in block),
}


def uv() -> Path:
    """The installer that everything else here was installed with."""
    found = os.environ.get("UV") or shutil.which("uv") or ROOT / ".bootstrap/bin/uv"
    if not Path(found).exists():
        missing("uv is not installed")
    return Path(found)


@pytest.mark.slow
@pytest.mark.reference_only("what an installer does is the same wherever it is started")
@pytest.mark.parametrize("way", WAYS)
def test_another_release_is_kept(way: str, tmp_path: Path) -> None:
    source, venv = tmp_path / "source", tmp_path / "venv"
    source.mkdir()
    for name in ("tracer", "hooks", "reports", "pyproject.toml", "setup.py", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    # As in a shell in which the environment was activated.
    variables = environment(
        VIRTUAL_ENV=str(venv), PATH=os.pathsep.join(map(str, (uv().parent, venv / "bin", os.environ["PATH"])))
    )

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            [*map(str, command)], cwd=source, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(uv(), "venv", "--quiet", venv)
    # uv stands in for pip: it reads the same arguments, and need not fetch everything again.
    run("bash", "-ec", WAYS[way].replace("pip install", "uv pip install").replace("uv uv", "uv"))
    model = tiny_checkpoint(tmp_path / "tiny")
    told = run(venv / "bin/trace-generate", "--model", model, "--prompt", "w10 w11", "--max-new-tokens", "2")
    assert "transformers 4.57.6" in told
