"""What the names of transformers mean, in a few words each."""

from __future__ import annotations

from reports.view.text import plain
from tracer.schema.run import CriterionInfo, ProcessorInfo

MODEL_INPUTS = {
    "input_ids": "token ids that the model reads now",
    "inputs_embeds": "embeddings read in place of token ids",
    "attention_mask": "1: may be attended to, 0: padding",
    "position_ids": "place in the row without padding",
    "cache_position": "cache slots that this step writes",
    "token_type_ids": "segment of each token",
}

PROCESSORS = {
    "RepetitionPenaltyLogitsProcessor": "Tokens that already occur in the row, the prompt included, "
    "get a lower score: divided by the penalty if positive, multiplied if negative.",
    "NoRepeatNGramLogitsProcessor": "Removes every token that would repeat an n-gram of the row.",
    "NoBadWordsLogitsProcessor": "Removes tokens that would complete a forbidden word.",
    "SequenceBiasLogitsProcessor": "Adds a bias to tokens that would complete given sequences.",
    "MinLengthLogitsProcessor": "Removes the end token until the row is long enough.",
    "MinNewTokensLengthLogitsProcessor": "Removes the end token until enough new tokens are there.",
    "ForcedBOSTokenLogitsProcessor": "Leaves only the given first token.",
    "ForcedEOSTokenLogitsProcessor": "Leaves only the end token when the maximal length is reached.",
    "SuppressTokensLogitsProcessor": "Removes the given tokens in every step.",
    "SuppressTokensAtBeginLogitsProcessor": "Removes the given tokens in the first step.",
    "ExponentialDecayLengthPenalty": "Raises the end token's score more and more with the length.",
    "InfNanRemoveLogitsProcessor": "Replaces NaN by 0 and infinite scores by the largest finite number.",
    "LogitNormalization": "Turns the scores into log-probabilities.",
    "HammingDiversityLogitsProcessor": "Tokens that beams of earlier groups go on with in this step get a "
    "lower score: diversity_penalty for each of these beams.",
    "EncoderRepetitionPenaltyLogitsProcessor": "Raises the score of tokens that occur in the prompt.",
    "EncoderNoRepeatNGramLogitsProcessor": "Removes every token that would repeat an n-gram of the prompt.",
    "PrefixConstrainedLogitsProcessor": "Leaves only the tokens that a function allows.",
    "UnbatchedClassifierFreeGuidanceLogitsProcessor": "Moves the scores away from those of a second, "
    "unconditional forward pass.",
    "WatermarkLogitsProcessor": "Raises the scores of a secret part of the vocabulary.",
    "SynthIDTextWatermarkLogitsProcessor": "Shifts probability to a secret part of the vocabulary.",
    "TemperatureLogitsWarper": "Divides every score by the temperature: below 1 sharpens, above 1 flattens.",
    "TopHLogitsWarper": "Keeps the most probable tokens that together make up top_h of the entropy.",
    "TopKLogitsWarper": "Keeps the k highest scores and removes the others.",
    "TopPLogitsWarper": "Keeps the most probable tokens whose probabilities together reach top_p.",
    "MinPLogitsWarper": "Keeps tokens at least min_p times as probable as the most probable one.",
    "TypicalLogitsWarper": "Keeps the tokens whose surprise is closest to the entropy, up to the given mass.",
    "EpsilonLogitsWarper": "Removes tokens with a probability below epsilon.",
    "EtaLogitsWarper": "Removes tokens below a limit that depends on the entropy.",
}

CRITERIA = {
    "MaxLengthCriteria": "stops every row at the maximal length, prompt included",
    "EosTokenCriteria": "stops a row that ends with an end token",
    "MaxTimeCriteria": "stops every row when the time is over",
    "StopStringCriteria": "stops a row that ends with one of the given strings",
    "ConfidenceCriteria": "stops when the model is not sure enough",
}

SETTINGS = {
    "do_sample": "draw at random (True) or take the highest score (False)",
    "temperature": "scores are divided by it before softmax",
    "top_h": "the most probable tokens that together make up this part of the entropy stay",
    "top_k": "only the k highest scores stay",
    "top_p": "the most probable tokens that together reach this probability stay",
    "min_p": "tokens below this share of the highest probability go",
    "typical_p": "mass of tokens that carry about the expected surprise",
    "epsilon_cutoff": "tokens below this probability go",
    "eta_cutoff": "like epsilon, adapted to the entropy",
    "repetition_penalty": "lowers tokens that already occur; 1 does nothing",
    "no_repeat_ngram_size": "n-grams of this size never occur twice",
    "max_new_tokens": "most tokens to generate",
    "max_length": "longest row, prompt included",
    "min_new_tokens": "fewest tokens to generate",
    "min_length": "shortest row, prompt included",
    "eos_token_id": "tokens that end a row",
    "bos_token_id": "token that begins a row",
    "pad_token_id": "fills rows that are shorter or have ended",
    "use_cache": "keep keys and values of tokens already read",
    "cache_implementation": "kind of KV cache",
    "num_beams": "beams; 1 is no beam search",
    "length_penalty": "exponent of the length that a hypothesis's score is divided by",
    "early_stopping": "when a beam search is done: True, as soon as there are enough hypotheses",
    "dola_layers": "layers that the last one is contrasted with",
    "prompt_lookup_num_tokens": "tokens that prompt lookup proposes",
    "num_assistant_tokens": "tokens that the draft model proposes",
    "num_return_sequences": "answers for each prompt",
    "guidance_scale": "strength of classifier-free guidance",
    "renormalize_logits": "make log-probabilities of the scores at the end",
    "max_time": "seconds after which to stop",
    "stop_strings": "texts that end a row",
    "output_scores": "return the processed scores",
    "output_logits": "return the raw logits",
    "return_dict_in_generate": "return an object, not only the ids",
}


def processor_meaning(info: ProcessorInfo) -> str | None:
    """What a processor of transformers does; None for any other."""
    return PROCESSORS.get(info.class_name) if info.of_transformers else None


def criterion_meaning(info: CriterionInfo) -> str | None:
    """What a stopping criterion of transformers does; None for any other."""
    return CRITERIA.get(info.class_name) if info.of_transformers else None


def settings_text(settings: dict[str, str]) -> tuple[str, ...]:
    """Settings as ``name=value``, each safe to print; what says nothing is left out.

    Args:
        settings: a processor's or criterion's public attributes.
    """
    return tuple(
        f"{plain(name, 80)}={plain(value, 120)}"
        for name, value in settings.items()
        if (name, value) not in _DEFAULTS
    )


_DEFAULTS = frozenset({("filter_value", "-inf"), ("min_tokens_to_keep", "1"), ("top_n", "100")})
