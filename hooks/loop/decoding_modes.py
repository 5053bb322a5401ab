"""The decoding modes that are not traced yet, by name."""

from __future__ import annotations

from typing import Any

from transformers import GenerationConfig
from transformers.generation.configuration_utils import GenerationMode

from tracer.errors import UnsupportedError

_NAMES = {
    GenerationMode.BEAM_SEARCH: "beam search (num_beams > 1)",
    GenerationMode.BEAM_SAMPLE: "beam sampling (num_beams > 1 with do_sample)",
    GenerationMode.GROUP_BEAM_SEARCH: "group beam search (num_beam_groups > 1)",
    GenerationMode.CONSTRAINED_BEAM_SEARCH: "constrained beam search (constraints, force_words_ids)",
    GenerationMode.ASSISTED_GENERATION: "assisted decoding (assistant_model, prompt_lookup_num_tokens)",
    GenerationMode.CONTRASTIVE_SEARCH: "contrastive search (penalty_alpha with top_k > 1)",
    GenerationMode.DOLA_GENERATION: "DoLa decoding (dola_layers)",
}

UNTRACED_METHODS = {
    "_beam_search": GenerationMode.BEAM_SEARCH,
    "_group_beam_search": GenerationMode.GROUP_BEAM_SEARCH,
    "_constrained_beam_search": GenerationMode.CONSTRAINED_BEAM_SEARCH,
    "_assisted_decoding": GenerationMode.ASSISTED_GENERATION,
    "_contrastive_search": GenerationMode.CONTRASTIVE_SEARCH,
    "_dola_decoding": GenerationMode.DOLA_GENERATION,
}
"""Methods of a model that decode otherwise than ``_sample``, and their modes."""


def require_traced_mode(config: GenerationConfig) -> None:
    """Refuse settings that lead to an untraced mode.

    Raises:
        UnsupportedError: naming the mode.
    """
    mode = config.get_generation_mode()
    if mode in _NAMES:
        raise untraced(mode)


def untraced(mode: Any) -> UnsupportedError:
    """The error for an untraced mode."""
    return UnsupportedError(
        f"{_NAMES[mode]} is not traced yet; greedy decoding and sampling are. "
        "Change the generation settings or generate outside of the trace."
    )
