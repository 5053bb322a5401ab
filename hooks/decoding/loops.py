"""The watch of each decoding loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel
from transformers.generation.candidate_generator import AssistedCandidateGenerator

from hooks.decoding.assisted import AssistedWatch
from hooks.decoding.beam_methods import BeamMethodsWatch, require_own_helpers
from hooks.decoding.beam_search import BeamWatch, require_own_scorer
from hooks.decoding.constrained_search import ConstrainedWatch
from hooks.decoding.contrastive import ContrastiveWatch
from hooks.decoding.dola import DolaWatch
from hooks.decoding.group_search import GroupWatch
from hooks.decoding.loop_watch import LoopWatch, PlainLoop
from hooks.known_models import KnownModel
from tracer.library.decoding_modes import own_layers
from tracer.library.loop import Loop


def require_watchable(loop: Loop, model: PreTrainedModel, arguments: Mapping[str, Any]) -> None:
    """Refuse a run that its loop's watch could not follow, before anything of it is recorded.

    Args:
        loop: the loop.
        model: the model that generates.
        arguments: the loop's own arguments.

    Raises:
        UnsupportedError: naming what cannot be followed.
    """
    if loop.helpers:
        require_own_helpers(loop, model)
    elif loop.method in ("_beam_search", "_group_beam_search", "_constrained_beam_search"):
        require_own_scorer(arguments)
    if getattr(arguments["generation_config"], "use_mtp", None):
        raise own_layers()


def is_speculative(arguments: Mapping[str, Any]) -> bool:
    """Whether proposals have probabilities that those of the model are compared with.

    Args:
        arguments: the loop's own arguments.
    """
    given = arguments.get("candidate_generator")  # newer loops make it themselves
    return isinstance(given, AssistedCandidateGenerator) or arguments.get("assistant_model") is not None


def loop_watch(
    loop: Loop,
    model: PreTrainedModel,
    arguments: dict[str, Any],
    known: KnownModel,
    *,
    keep_logits: bool,
    statistics: bool,
) -> LoopWatch:
    """A watch for one run of a loop.

    Args:
        loop: the loop.
        model: the model that generates.
        arguments: the loop's own arguments; stand-ins may replace some of them.
        known: what is known of the model.
        keep_logits: whether something asks for the model's own logits.
        statistics: whether to take checksums.
    """
    if loop.method == "_dola_decoding":
        return DolaWatch(model, arguments["dola_layers"])
    if loop.method == "_beam_search":
        if loop.helpers:
            return BeamMethodsWatch(arguments, keep_logits=keep_logits)
        splits = bool(arguments["generation_config"].low_memory)
        return BeamWatch(arguments, keep_logits=keep_logits, splits=splits)
    if loop.method == "_group_beam_search":
        return GroupWatch(arguments, keep_logits=keep_logits)
    if loop.method == "_constrained_beam_search":
        return ConstrainedWatch(arguments, keep_logits=keep_logits)
    if loop.method == "_assisted_decoding":
        return AssistedWatch(arguments, keep_logits=keep_logits)
    if loop.method == "_contrastive_search":
        return ContrastiveWatch(arguments, known, statistics=statistics)
    return PlainLoop()
