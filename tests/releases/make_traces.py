"""Make the traces in ``tests/releases/traces``: a greedy and a sampled run of one small model, under the
required release a run of the demo model, and under releases without a beam scorer a beam search.

Run it once with the Python of each release, from the root of the repository::

    python -m tests.releases.make_traces

Nothing but the release may differ between them, so a trace is made again for all releases or for none. It is
compressed: four fifths of it are what SQLite and JSON take.
"""

from __future__ import annotations

import lzma
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from tests.support.checkpoints import tiny_tokenizer
from tests.support.decoding import search
from tests.support.demo import demo_model
from tests.support.models import GREEDY, SAMPLING, batch, generate, tiny_model
from tracer import trace
from tracer.library.release import REFERENCE, installed_release

TRACES = Path(__file__).with_name("traces")


def main() -> None:
    """Replace the trace of the installed release."""
    torch.set_num_threads(1)
    model = tiny_model(num_hidden_layers=1)
    TRACES.mkdir(exist_ok=True)
    packed = TRACES / f"{metadata.version('transformers')}.trace.xz"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.trace"
        with trace(model, path=path, capture="tensors", save=("logits", "kv"), name="tiny", seed=1):
            for settings in (GREEDY, SAMPLING):
                generate(model, batch(3), **settings, max_new_tokens=4)
        packed.write_bytes(lzma.compress(path.read_bytes(), preset=9))
        loop = installed_release().loop_of("beam_search")
        if loop is not None and loop.helpers:
            record_beams(path)
            packed = TRACES / f"beams-{metadata.version('transformers')}.trace.xz"
            packed.write_bytes(lzma.compress(path.read_bytes(), preset=9))
        if metadata.version("transformers") == REFERENCE:
            record_demo(path)
            (TRACES / "demo.trace.xz").write_bytes(lzma.compress(path.read_bytes(), preset=9))


def record_beams(path: Path) -> None:
    """Record a beam search in which rows are done at different times.

    Args:
        path: the trace to make.
    """
    settings: dict[str, Any] = {"do_sample": False, "num_beams": 2, "early_stopping": True}
    model = tiny_model(num_hidden_layers=1)
    with trace(model, tiny_tokenizer(), path, capture="shapes", name="tiny", seed=1, force=True):
        search(model, batch(3), **settings, eos_token_id=[*range(20, 26)], max_new_tokens=8)


def record_demo(path: Path) -> None:
    """Record a run of the demo model.

    Args:
        path: the trace to make.
    """
    model = demo_model()
    # Its own settings are for sampling.
    greedy = {**GREEDY, "temperature": None, "top_k": None, "top_p": None}
    with trace(model, path=path, capture="shapes", candidates=8, name="demo", seed=1, force=True):
        generate(model, batch(), **greedy, max_new_tokens=3)


def unpacked(name: str, folder: Path) -> Path:
    """A trace, unpacked.

    Args:
        name: version of transformers, the same behind ``beams-``, or ``demo``.
        folder: where to.
    """
    path = folder / f"{name}.trace"
    path.write_bytes(lzma.decompress((TRACES / f"{name}.trace.xz").read_bytes()))
    return path


if __name__ == "__main__":
    main()
