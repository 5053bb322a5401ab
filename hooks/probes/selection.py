"""The tensors that ``--capture tensors --save …`` selects for storing, and the modules they come from."""

from __future__ import annotations

import re

from transformers import PreTrainedModel

from hooks.known_models import known_model
from hooks.probes.attention import AttentionProbe
from hooks.probes.decoder_parts import decoder_layers
from hooks.probes.lens import LensProbe
from hooks.probes.probe import Probe
from tracer.capture_settings import unsaved
from tracer.errors import UnsupportedError
from tracer.schema.run import CaptureSettings


class TensorSelection:
    """The tensors to store for one model.

    Attributes:
        logits: raw logits of the last position, whole vocabulary.
        kv: the slots that each step adds to the KV cache.
        modules: tensor name by module index, for modules whose outputs are stored.
        attention: attention weights.
        lens: the logit lens, at every level.
    """

    def __init__(self, capture: CaptureSettings, model: PreTrainedModel) -> None:
        """Resolve the names of ``--save``.

        Args:
            capture: settings; ``save`` counts at level ``tensors`` only.
            model: the model.

        Raises:
            UsageError: for a regular expression that matches no module.
            UnsupportedError: for the KV cache of a model that has none, or of another form.
        """
        wanted = capture.save if capture.level == "tensors" else ()
        self.logits = "logits" in wanted
        self.kv = "kv" in wanted
        if self.kv:
            _require_slots(model)
        self.attention = "attention" in wanted
        self.lens = "lens" in capture.save
        self.modules: dict[int, str] = {}
        for kind in wanted:
            if kind == "hidden":
                self.modules.update(_decoder_layers(model))
            elif kind.startswith("modules="):
                self.modules.update(_matching(model, kind.removeprefix("modules=")))

    def probes(self, model: PreTrainedModel) -> tuple[Probe, ...]:
        """New probes for one run, as the selection needs them.

        Args:
            model: the model.

        Raises:
            UnsupportedError: the model does not show what was selected.
        """
        found: list[Probe] = []
        if self.attention:
            found.append(AttentionProbe(model))
        if self.lens:
            found.append(LensProbe(model))
        return tuple(found)


def _require_slots(model: PreTrainedModel) -> None:
    reason = known_model(model).kv
    if reason is not None:
        problem = f"{type(model).__name__}: {reason}."
        raise UnsupportedError(f"save=kv: {problem}", command_line=f"--save kv: {problem}")


def _decoder_layers(model: PreTrainedModel) -> dict[int, str]:
    numbers = {id(layer): number for number, layer in enumerate(decoder_layers(model))}
    return {
        index: f"hidden/{numbers[id(module)]}"
        for index, module in enumerate(model.modules())
        if id(module) in numbers
    }


def _matching(model: PreTrainedModel, expression: str) -> dict[int, str]:
    pattern = re.compile(expression)
    found = {
        index: f"modules/{name}"
        for index, (name, _) in enumerate(model.named_modules())
        if pattern.search(name)
    }
    if not found:
        raise unsaved(f"modules={expression}", f"no module of {type(model).__name__} matches.")
    return found
