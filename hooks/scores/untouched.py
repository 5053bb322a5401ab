"""Whether scores stay as they are once a run has gone on from them, so that they need not be copied."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from transformers import GenerationMixin, PreTrainedModel
from transformers.generation import logits_process, stopping_criteria

READERS = frozenset(
    {
        "EncoderNoRepeatNGramLogitsProcessor",
        "EncoderRepetitionPenaltyLogitsProcessor",
        "EpsilonLogitsWarper",
        "EtaLogitsWarper",
        "ExponentialDecayLengthPenalty",
        "ForcedBOSTokenLogitsProcessor",
        "ForcedEOSTokenLogitsProcessor",
        "InfNanRemoveLogitsProcessor",
        "LogitNormalization",
        "MinLengthLogitsProcessor",
        "MinNewTokensLengthLogitsProcessor",
        "MinPLogitsWarper",
        "NoBadWordsLogitsProcessor",
        "NoRepeatNGramLogitsProcessor",
        "PrefixConstrainedLogitsProcessor",
        "RepetitionPenaltyLogitsProcessor",
        "SequenceBiasLogitsProcessor",
        "SuppressTokensAtBeginLogitsProcessor",
        "SuppressTokensLogitsProcessor",
        "TemperatureLogitsWarper",
        "TopHLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
        "TypicalLogitsWarper",
    }
)
"""The library's processors and warpers that only read the scores ``[batch, vocab]`` that they are given."""


def scores_stay(model: PreTrainedModel, processors: Iterable[Any], criteria: Iterable[Any]) -> bool:
    """Whether nothing of a run by ``_sample`` writes into scores behind the processor that made them.

    Args:
        model: the model that generates.
        processors: processors and warpers, in order; each is given what the one before has made.
        criteria: the stopping criteria, which may be given the scores of all steps.
    """
    return (
        getattr(model._sample, "__func__", None) is GenerationMixin._sample
        and all(_only_reads(each) for each in processors)
        and all(_is_of(stopping_criteria.__name__, each) for each in criteria)
    )


def _only_reads(processor: Any) -> bool:
    return type(processor).__name__ in READERS and _is_of(logits_process.__name__, processor)


def _is_of(module: str, element: Any) -> bool:
    """Whether an object, and what a call of it runs, is of a module."""
    kind = type(element)
    return kind.__module__ == module == getattr(kind.__call__, "__module__", None)
