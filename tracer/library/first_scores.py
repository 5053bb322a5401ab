"""The scores that the processors of a loop begin with, stage 0 of a step: what they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tracer.schema.run import LoopName


@dataclass(frozen=True)
class FirstScores:
    """Names of the first scores.

    Attributes:
        one: a single one, as in ``raw logit``.
        many: all of them.
        ruled_out: why one may be ``-inf``, as a sentence.
    """

    one: str
    many: str
    ruled_out: str


_BY_MODEL = "The model itself ruled it out, with a logit of -inf."
_LOG_PROBABILITY = FirstScores("log-probability", "log-probabilities", _BY_MODEL)

FIRST_SCORES: Mapping[LoopName, FirstScores] = MappingProxyType(
    {
        "_sample": FirstScores("raw logit", "raw logits", _BY_MODEL),
        "_dola_decoding": FirstScores(
            "contrast",
            "contrasts",
            "The contrast left it out: the last layer gives it less than a tenth of the probability of its "
            "best token.",
        ),
        "_assisted_decoding": FirstScores("raw logit", "raw logits", _BY_MODEL),
        "_contrastive_search": FirstScores("raw logit", "raw logits", _BY_MODEL),
        "_beam_search": _LOG_PROBABILITY,
        "_group_beam_search": _LOG_PROBABILITY,
        "_constrained_beam_search": _LOG_PROBABILITY,
    }
)
"""By loop."""
