"""The methods of a model that decode otherwise than ``_sample``, with their modes."""

from __future__ import annotations

UNTRACED_METHODS = {
    "_beam_search": "beam_search",
    "_group_beam_search": "group_beam_search",
    "_constrained_beam_search": "constrained_beam_search",
    "_assisted_decoding": "assisted_generation",
    "_contrastive_search": "contrastive_search",
    "_dola_decoding": "dola_generation",
}
"""Names of the methods, and the library's names of the modes (:mod:`tracer.decoding_modes`)."""
