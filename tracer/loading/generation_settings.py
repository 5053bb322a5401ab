"""Every generation setting with the values that it may have, so that a wrong one is refused at once.

The library itself refuses some of these values when the model is loaded, and accepts others in silence, such
as a ``top_p`` of 1.5. Needs neither torch nor transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tracer.errors import UsageError
from tracer.library.release import installed_release
from tracer.messages import one_line
from tracer.nearest_word import suggestion


@dataclass(frozen=True)
class Rule:
    """What a setting may be.

    Attributes:
        words: what it must be, for a message.
        holds: whether a value is allowed; None always is, and leaves the setting unset.
        number: whether a whole number means the same as one with a point.
    """

    words: str
    holds: Callable[[Any], bool]
    number: bool = False


def _whole(least: int) -> Rule:
    return Rule(f"a whole number, at least {least}", lambda value: _is_whole(value) and value >= least)


def _number(words: str, holds: Callable[[float], bool]) -> Rule:
    return Rule(words, lambda value: _is_number(value) and holds(value), number=True)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_list_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple) and bool(value) and all(map(holds, value))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_token(value: Any) -> bool:
    return _is_whole(value) and value >= 0


_FLAG = Rule("true or false", lambda value: isinstance(value, bool))
_ABOVE_0 = _number("a number above 0", lambda value: value > 0)
_ANY_NUMBER = _number("a number", lambda _: True)
_SHARE = _number("from 0 to 1", lambda value: 0 <= value <= 1)
_CUTOFF = _number("at least 0 and below 1", lambda value: 0 <= value < 1)
_TOKEN = Rule("a token id", _is_token)
_TOKENS = Rule("a list of token ids", _is_list_of(_is_token))
_TOKEN_OR_TOKENS = Rule(
    "a token id or a list of them", lambda value: _is_token(value) or _is_list_of(_is_token)(value)
)
_TOKEN_LISTS = Rule("a list of lists of token ids", _is_list_of(_is_list_of(_is_token)))
_ANYTHING = Rule("anything", lambda _: True)
_OBJECT = Rule("an object of its settings", lambda value: not isinstance(value, str | int | list))
_OF_PYTHON = Rule(
    "an object that only Python has: use trace() from Python",
    lambda value: not isinstance(value, str | int | float | list | dict),
)

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "max_length": _whole(1),
        "max_new_tokens": _whole(1),
        "min_length": _whole(0),
        "min_new_tokens": _whole(0),
        "early_stopping": Rule("true, false or never", lambda value: value in (True, False, "never")),
        "max_time": _ABOVE_0,
        "stop_strings": Rule(
            "a text or a list of texts",
            lambda value: bool(value) and (_is_text(value) or _is_list_of(_is_text)(value)),
        ),
        "do_sample": _FLAG,
        "num_beams": _whole(1),
        "num_beam_groups": _whole(1),
        "penalty_alpha": _ANY_NUMBER,
        "use_cache": _FLAG,
        "temperature": _ABOVE_0,
        "top_k": _whole(0),
        "top_p": _SHARE,
        "min_p": _SHARE,
        "typical_p": _number("above 0 and at most 1", lambda value: 0 < value <= 1),
        "epsilon_cutoff": _CUTOFF,
        "eta_cutoff": _CUTOFF,
        "diversity_penalty": _ANY_NUMBER,
        "repetition_penalty": _ABOVE_0,
        "encoder_repetition_penalty": _ABOVE_0,
        "length_penalty": _ANY_NUMBER,
        "no_repeat_ngram_size": _whole(0),
        "bad_words_ids": _TOKEN_LISTS,
        "force_words_ids": Rule(
            "a list of words, each a list of token ids, or a list of such lists of which one is enough",
            _is_list_of(
                lambda word: _is_list_of(_is_token)(word) or _is_list_of(_is_list_of(_is_token))(word)
            ),
        ),
        "renormalize_logits": _FLAG,
        "constraints": Rule(
            "a list of objects that only Python has: use force_words_ids, or trace() from Python",
            _is_list_of(lambda each: not isinstance(each, str | int | float | list | dict)),
        ),
        "forced_bos_token_id": _TOKEN,
        "forced_eos_token_id": _TOKEN_OR_TOKENS,
        "remove_invalid_values": _FLAG,
        "exponential_decay_length_penalty": Rule(
            "a list of a step and a factor",
            lambda value: _is_list_of(_is_number)(value) and len(value) == 2 and _is_token(value[0]),
        ),
        "suppress_tokens": _TOKENS,
        "begin_suppress_tokens": _TOKENS,
        "forced_decoder_ids": Rule(
            "a list of pairs of a position and a token id",
            _is_list_of(lambda pair: _is_list_of(_is_token)(pair) and len(pair) == 2),
        ),
        "sequence_bias": Rule(
            "a mapping from tuples of token ids to numbers, which only Python has: use trace() from Python",
            lambda value: (
                isinstance(value, dict) and bool(value) and all(isinstance(k, tuple) for k in value)
            ),
        ),
        "token_healing": _FLAG,
        "guidance_scale": _ANY_NUMBER,
        "low_memory": _FLAG,
        "watermarking_config": Rule(
            "an object of its settings", lambda value: not isinstance(value, str | int)
        ),
        "num_return_sequences": _whole(1),
        "output_attentions": _FLAG,
        "output_hidden_states": _FLAG,
        "output_scores": _FLAG,
        "output_logits": _FLAG,
        "return_dict_in_generate": _FLAG,
        "pad_token_id": _TOKEN,
        "bos_token_id": _TOKEN,
        "eos_token_id": _TOKEN_OR_TOKENS,
        "encoder_no_repeat_ngram_size": _whole(0),
        "decoder_start_token_id": _TOKEN_OR_TOKENS,
        "num_assistant_tokens": _whole(1),
        "num_assistant_tokens_schedule": Rule("a text", _is_text),
        "dola_layers": Rule(
            "low, high or a list of layer numbers",
            lambda value: value in ("low", "high") or _is_list_of(_is_whole)(value),
        ),
        "cache_implementation": Rule("a text", _is_text),
        "cache_config": _OBJECT,
        "return_legacy_cache": _FLAG,
        "prompt_lookup_num_tokens": _ANYTHING,
        "max_matching_ngram_size": _whole(1),
        "generation_kwargs": Rule("an object", lambda value: isinstance(value, dict)),
        "assistant_confidence_threshold": _SHARE,
        "assistant_early_exit": _whole(1),
        "assistant_lookbehind": _whole(1),
        "target_lookbehind": _whole(1),
        "is_assistant": _FLAG,
        "disable_compile": _FLAG,
        "prefill_chunk_size": _whole(1),
        "compile_config": _OF_PYTHON,
        "top_h": _number("above 0 and at most 1", lambda value: 0 < value <= 1),
        "max_cache_len": _whole(1),
        "use_mtp": _FLAG,
        "speculation_type": Rule("a text", _is_text),
        "assistant_ensemble_weight": _number("between 0 and 1", lambda value: 0 < value < 1),
        "continuous_batching_config": _OF_PYTHON,
    }
)
"""Settings of ``GenerationConfig`` of all releases that can be traced."""

_OPTIONS = MappingProxyType(
    {
        "temperature": "--temperature",
        "top_k": "--top-k",
        "top_p": "--top-p",
        "repetition_penalty": "--repetition-penalty",
        "do_sample": "--sample",
        "max_new_tokens": "--max-new-tokens",
    }
)
"""Settings with an option of their own."""


def rules() -> Mapping[str, Rule]:
    """The settings of ``GenerationConfig`` of the installed release.

    Raises:
        UnsupportedError: see :func:`tracer.library.release.installed_release`.
    """
    release = installed_release()
    caches = Rule(f"one of {', '.join(release.caches)}", lambda value: value in release.caches)
    kept = {name: rule for name, rule in RULES.items() if name not in release.absent_settings}
    return {**kept, "cache_implementation": caches}


def checked_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse what is no setting, or no value of it.

    Args:
        settings: generation settings by their names in ``GenerationConfig``.

    Returns:
        The settings, whole numbers made numbers with a point where the library wants those.

    Raises:
        UsageError: for a name that there is not, or an impossible value.
    """
    known = rules() if settings else {}
    checked = {name: _checked(known, name, value) for name, value in settings.items()}
    sequences = checked.get("num_return_sequences")
    one_answer = checked.get("do_sample") is False and checked.get("num_beams") in (None, 1)
    if sequences is not None and sequences > 1 and one_answer:
        raise UsageError(
            f"num_return_sequences is {sequences}; greedy decoding has one answer only.",
            command_line=f"--gen num_return_sequences={sequences}: greedy decoding has one answer only.",
        )
    return checked


def _checked(known: Mapping[str, Rule], name: str, value: Any) -> Any:
    rule = known.get(name)
    if rule is None:
        near = suggestion(name, known)
        raise UsageError(
            f"{name}: no such generation setting.{near}",
            command_line=f"--gen {name}: no such generation setting.{near}",
        )
    if value is None:
        return None
    if not rule.holds(value):
        option = _OPTIONS.get(name)
        text = one_line(value, 60)
        given = f"{option} {text}" if option else f"--gen {name}={text}"
        advice = "; for the best token each time use --greedy" if name == "temperature" and value == 0 else ""
        problem = f"it must be {rule.words}"
        raise UsageError(
            f"{name}={one_line(repr(value), 60)}: {problem}.", command_line=f"{given}: {problem}{advice}."
        )
    return float(value) if rule.number else value
