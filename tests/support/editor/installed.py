"""The editor's files, fetched once by npm and kept in the cache folder."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from filelock import FileLock

from tracer.loading.demo_model import cache_folder

VERSION = "4.100.3"
"""Of code-server, whose package holds VS Code's server and workbench as files."""

_MINUTES = 10


class EditorMissingError(Exception):
    """The editor cannot be fetched; the text says why."""


def installed_editor() -> Path:
    """The folder of VS Code's server, which the first call fetches: 42 MB, and its dependencies.

    Of code-server only that is taken. Its own part, a login page in front, needs a compiler.

    Raises:
        EditorMissingError: npm is not there, or cannot fetch it.
    """
    npm = shutil.which("npm")
    folder = cache_folder() / f"code-server-{VERSION}"
    if folder.is_dir():
        return folder
    if npm is None:
        raise EditorMissingError("npm is not installed")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.is_dir():
            _install(npm, folder)
    return folder


def _install(npm: str, folder: Path) -> None:
    """Make the folder in one piece, so that an attempt that fails leaves nothing."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
        workshop = Path(name)
        _run([npm, "pack", "--silent", f"code-server@{VERSION}"], workshop)
        (packed,) = workshop.glob("*.tgz")
        with tarfile.open(packed) as archive:
            archive.extractall(workshop, filter="data")
        server = workshop / "package" / "lib" / "vscode"
        # Scripts would compile what the editor does without here: logs in files, Kerberos, terminals.
        _run([npm, "install", "--ignore-scripts", "--omit=dev", "--no-fund", "--no-audit"], server)
        server.rename(folder)


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=60 * _MINUTES, check=False
        )
    except subprocess.TimeoutExpired:
        raise EditorMissingError(f"npm did not fetch it within {_MINUTES} minutes") from None
    if done.returncode:
        raise EditorMissingError(f"npm cannot fetch it: {done.stderr.strip() or done.returncode}")
