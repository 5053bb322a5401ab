"""What a name of a model means, and what a folder of one holds; needs neither torch nor transformers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tracer.errors import ModelLoadError, UsageError
from tracer.loading.generation_settings import RULES
from tracer.loading.model_spec import ALLOW_DAMAGED
from tracer.messages import one_line, reason, shown
from tracer.nearest_word import suggestion

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
ADAPTER_CONFIG = "adapter_config.json"

_WEIGHTS = ("*.safetensors", "*.bin", "*.safetensors.index.json", "*.bin.index.json")

_ADAPTER_WEIGHTS = "adapter_model.*"

_MAX_JSON_BYTES = 64 << 20


@dataclass(frozen=True)
class ModelFolder:
    """Where a model is loaded from.

    Attributes:
        checkpoint: folder or hub id of the model's own weights.
        adapter: folder or hub id of a PEFT adapter on top of it; None for none.
    """

    checkpoint: str
    adapter: str | None = None

    @property
    def tokenizer(self) -> str:
        """Where the tokenizer is: an adapter may bring its own."""
        if self.adapter is not None and (Path(self.adapter) / "tokenizer_config.json").is_file():
            return self.adapter
        return self.checkpoint


def find_source(name: str) -> ModelFolder:
    """What a name means; a folder's contents are checked.

    Args:
        name: a folder, or a hub id, about which nothing is known yet.

    Raises:
        UsageError: the name is empty.
        ModelLoadError: there is no such folder, or it holds no model.
    """
    folder = _folder(name)
    if folder is None:
        return ModelFolder(name)
    if _is_adapter(folder):
        source = adapter_source(str(folder), folder / ADAPTER_CONFIG, name)
        if not any(folder.glob(_ADAPTER_WEIGHTS)):
            raise ModelLoadError(f"--model {shown(name)}: the adapter has no weights ({_ADAPTER_WEIGHTS}).")
        return source
    _check_checkpoint(folder, name)
    return ModelFolder(str(folder))


def _is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / CONFIG).is_file()


def adapter_source(adapter: str, settings: Path, name: str) -> ModelFolder:
    """An adapter and the model that it was made for.

    Args:
        adapter: folder or hub id of the adapter.
        settings: its ``adapter_config.json``.
        name: what the user calls it.

    Raises:
        ModelLoadError: peft is not installed, or the adapter names no model that can be found.
    """
    if find_spec("peft") is None:
        raise ModelLoadError(
            f"{shown(name)} is a PEFT adapter, and the package peft is not installed; "
            "install it with: pip install peft"
        )
    base = read_object(settings, name).get("base_model_name_or_path")
    if not isinstance(base, str) or not base.strip():
        raise ModelLoadError(f"The adapter {shown(name)} does not say which model it was made for.")
    try:
        folder = _folder(base)
        if folder is not None and _is_adapter(folder):
            raise ModelLoadError(f"{shown(base)} is an adapter itself; merge that one into its model first.")
        if folder is not None:
            _check_checkpoint(folder, base)
    except ModelLoadError as error:
        raise ModelLoadError(f"The adapter {shown(name)} needs its base model: {error}") from None
    return ModelFolder(base if folder is None else str(folder), adapter)


def folder_settings(folder: Path, name: str) -> dict[str, Any]:
    """The generation settings that the model in a folder brings, as they are written there.

    Args:
        folder: its folder.
        name: what the user calls it.

    Raises:
        ModelLoadError: the file that holds them cannot be read.
    """
    files = (folder / file for file in (GENERATION_CONFIG, CONFIG))
    return own_settings(next((file for file in files if file.exists()), None), name)


def own_settings(file: Path | None, name: str) -> dict[str, Any]:
    """The generation settings in a file.

    Args:
        file: ``generation_config.json``, or ``config.json``, where older models have them; None for none.
        name: what the user calls the model that it belongs to.

    Raises:
        ModelLoadError: it cannot be read.
    """
    if file is None:
        return {}
    try:
        found = read_object(file, name)
    except ModelLoadError as error:
        raise ModelLoadError(f"{error} Mend or remove it, or pass {ALLOW_DAMAGED} to go without.") from error
    return {key: value for key, value in found.items() if key in RULES}


def read_object(file: Path, name: str) -> dict[str, Any]:
    """A file of JSON that holds one object.

    Args:
        file: the file.
        name: what the user calls the model that it belongs to.

    Raises:
        ModelLoadError: it cannot be read, or holds something else.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_JSON_BYTES + 1)
        found = json.loads(text[:_MAX_JSON_BYTES])
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{file.name} of {shown(name)} cannot be read: {reason(error)}.") from error
    if not isinstance(found, dict):
        raise ModelLoadError(f"{file.name} of {shown(name)} holds no JSON object.")
    return found


def _folder(name: str) -> Path | None:
    """The folder that a name means; None for a hub id."""
    if not name.strip():
        raise UsageError("The name of the model is empty; pass a folder or a hub id.")
    try:
        path = Path(name).expanduser()
        exists, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError, RuntimeError) as error:  # too long, no text, or nobody's home folder
        raise ModelLoadError(f"--model {one_line(name)}: {reason(error)}.") from None
    if not exists:
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise ModelLoadError(f"--model {shown(name)}: no such folder.{folders_near(path)}")
        return None
    if not is_folder:
        raise ModelLoadError(f"--model {shown(name)}: is a file; pass the checkpoint's folder.")
    return path


def folders_near(path: Path) -> str:
    """A sentence that names a folder with a name much like that of a missing one; empty without one.

    Args:
        path: the missing one.
    """
    try:
        return suggestion(path.name, (each.name for each in path.parent.iterdir() if each.is_dir()))
    except OSError:
        return ""


def _check_checkpoint(folder: Path, name: str) -> None:
    if not (folder / CONFIG).is_file():
        raise ModelLoadError(f"--model {shown(name)}: the folder has no {CONFIG}, so it is no checkpoint.")
    read_object(folder / CONFIG, name)
    if not any(any(folder.glob(pattern)) for pattern in _WEIGHTS):
        raise ModelLoadError(f"--model {shown(name)}: the folder has no weights (*.safetensors or *.bin).")
