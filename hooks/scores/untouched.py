"""Whether scores stay as they are once a run has gone on from them, so that they need not be copied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import CodeType, ModuleType
from typing import Any

from transformers import LogitsProcessorList, PreTrainedModel, StoppingCriteriaList
from transformers.generation import logits_process, stopping_criteria, utils

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


def scores_stay(model: PreTrainedModel, processors: Sequence[Iterable[Any]], criteria: Iterable[Any]) -> bool:
    """Whether nothing of a run by ``_sample`` writes into scores behind the processor that made them.

    Args:
        model: the model that generates.
        processors: the lists of processors and warpers; each element is given what the one before has made.
        criteria: the stopping criteria, which may be given the scores of all steps.
    """
    return (
        _runs_code_of(utils, model._sample)
        and all(_is_of(logits_process, each, LogitsProcessorList) for each in processors)
        and _is_of(stopping_criteria, criteria, StoppingCriteriaList)
        and all(_only_reads(each) for processor_list in processors for each in processor_list)
        and all(_is_of(stopping_criteria, each) for each in criteria)
    )


def _only_reads(processor: Any) -> bool:
    return type(processor).__name__ in READERS and _is_of(logits_process, processor)


def _is_of(module: ModuleType, element: Any, kind: type | None = None) -> bool:
    """Whether an object, and what a call of it runs, is of a module of the library."""
    found = type(element)
    expected: Any = kind or getattr(module, found.__name__, None)
    return found is expected and _runs_code_of(module, expected.__call__)


def _runs_code_of(module: ModuleType, function: Any) -> bool:
    """Whether a function is one of a module; one around it has its name and module, but not its code."""
    code = getattr(function, "__code__", None)
    return isinstance(code, CodeType) and code.co_filename == module.__file__
