"""Recorded runs of the tiny model that the tests of time travel share, each made once."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.support.caches import layers_of
from tests.support.checkpoints import tiny_tokenizer
from tests.support.models import batch, generate, tiny_model
from tests.support.reading import read_once
from tracer import trace
from tracer.halting.callback import Halt
from tracer.replay.shelf import Shelf
from tracer.replay.travel import Travel
from tracer.schema.run import StopName
from tracer.tracefile import TraceFile, TraceRun

FOLDER = Path(tempfile.mkdtemp(prefix="replay-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


@dataclass(frozen=True)
class Recorded:
    """A recording, and the library's variables as they were when it was made.

    Attributes:
        path: the trace.
        frames: the variables of the frame at each stop of each step.
    """

    path: Path
    frames: Mapping[tuple[int, StopName], Mapping[str, Any]]

    def open(self) -> TraceRun:
        """Its run, newly opened."""
        return TraceFile(self.path).run()

    def travel(self) -> Travel:
        """A journey at its beginning."""
        return Travel(self.open())

    def shelf(self) -> Shelf:
        """A reader of it, for all that is asked of every stop."""
        return Shelf(read_once(self.open()))


@functools.cache
def recorded(
    rows: int = 1,
    save: tuple[str, ...] = (),
    tokens: int = 4,
    *,
    model_name: str = "qwen2",
    embedded: bool = False,
    **mode: Any,
) -> Recorded:
    """Record a run of a tiny model.

    Args:
        rows: rows of the batch, all but the first padded at the left.
        save: tensors to save.
        tokens: how many it generates.
        model_name: which tiny model.
        embedded: give the prompt as embeddings, without ids.
        mode: generation settings.
    """
    frames: dict[tuple[int, StopName], dict[str, Any]] = {}

    def look(halt: Halt) -> None:
        assert halt.stop is not None
        frames[halt.step, halt.stop] = {name: _copied(value) for name, value in halt.local.items()}

    number = len(list(FOLDER.glob("*.trace")))
    path = FOLDER / f"{number}.trace"
    if "force_words_ids" in mode:  # lists, which the library asks for, are no keys of a cache
        mode["force_words_ids"] = [[*word] for word in mode["force_words_ids"]]
    model, inputs = tiny_model(model_name), batch(rows)
    if embedded:
        inputs["inputs_embeds"] = model.get_input_embeddings()(inputs.pop("input_ids")).detach()
    with trace(
        model,
        tiny_tokenizer(),
        path,
        capture="tensors" if save else "stats",
        save=save,
        stops="all",
        stop_steps="all",
        on_stop=look,
    ):
        generate(model, inputs, max_new_tokens=tokens, eos_token_id=None, **mode)
    return Recorded(path, frames)


def _copied(value: Any) -> Any:
    """What a variable holds now: the cache goes on to grow."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: _copied(part) for name, part in value.items()}
    if hasattr(value, "key_cache") or hasattr(value, "layers"):
        # Layers of a new cache hold nothing.
        return [tuple(part.clone() for part in pair) for pair in layers_of(value) if pair[0] is not None]
    if hasattr(value, "logits"):
        return {"logits": value.logits.clone()}
    return value
