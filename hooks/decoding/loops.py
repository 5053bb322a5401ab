"""The watch of each decoding loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from hooks.decoding.dola import DolaWatch
from hooks.decoding.loop_watch import LoopWatch, PlainLoop
from tracer.library.loop import Loop


def loop_watch(loop: Loop, model: PreTrainedModel, arguments: Mapping[str, Any]) -> LoopWatch:
    """A watch for one run of a loop.

    Args:
        loop: the loop.
        model: the model that generates.
        arguments: the loop's own arguments.
    """
    if loop.method == "_dola_decoding":
        return DolaWatch(model, arguments["dola_layers"])
    return PlainLoop()
