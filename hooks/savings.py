"""What ``--capture tensors --save …`` stores: which tensors, and of which modules."""

from __future__ import annotations

import re

from torch import nn
from transformers import PreTrainedModel

from tracer.errors import UsageError
from tracer.schema.run import CaptureSettings

KINDS = ("logits", "hidden", "kv", "attention", "modules=REGEX")


class Savings:
    """The tensors to store for one model.

    Attributes:
        logits: raw logits of the last position, whole vocabulary.
        kv: the slots that each step adds to the KV cache.
        modules: tensor name by module index, for modules whose outputs are stored.
    """

    def __init__(self, capture: CaptureSettings, model: PreTrainedModel) -> None:
        """Resolve what was asked for.

        Args:
            capture: settings; ``save`` counts at level ``tensors`` only.
            model: the model whose modules are meant.

        Raises:
            UsageError: for an unknown kind, a bad regular expression, or one that matches no module.
        """
        wanted = capture.save if capture.level == "tensors" else ()
        self.logits = "logits" in wanted
        self.kv = "kv" in wanted
        self.modules: dict[int, str] = {}
        for kind in wanted:
            if kind == "hidden":
                self.modules.update(_decoder_layers(model))
            elif kind.startswith("modules="):
                self.modules.update(_matching(model, kind.removeprefix("modules=")))
            elif kind not in KINDS:
                raise UsageError(f"--save {kind}: unknown; choose from {', '.join(KINDS)}.")


def _decoder_layers(model: PreTrainedModel) -> dict[int, str]:
    """The decoder layers: the longest ``ModuleList`` of the model."""
    lists = [list(module) for module in model.modules() if isinstance(module, nn.ModuleList)]
    layers: list[nn.Module] = max(lists, key=len, default=[])
    numbers = {id(layer): number for number, layer in enumerate(layers)}
    return {
        index: f"hidden/{numbers[id(module)]}"
        for index, module in enumerate(model.modules())
        if id(module) in numbers
    }


def _matching(model: PreTrainedModel, expression: str) -> dict[int, str]:
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise UsageError(f"--save modules={expression}: not a regular expression: {error}.") from error
    found = {
        index: f"modules/{name}"
        for index, (name, _) in enumerate(model.named_modules())
        if pattern.search(name)
    }
    if not found:
        raise UsageError(f"--save modules={expression}: no module of {type(model).__name__} matches.")
    return found
