"""What is known of models: whether they treat tokens, positions and caches as most decoders do.

Most models of transformers write one slot of the KV cache for each token that goes in, take one position for
each, and have the row of the batch in the first dimension. Checks that rest on this are only made where it
is known to be so; the models that differ are listed here with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from hooks.instance_class import untouched_class

LegacyForm = Literal["pairs", "stacked", "merged"]
"""What a layer's entry in a cache of plain tuples is: a key and a value tensor and perhaps others behind
them; one tensor ``[2, …]``; or one with keys and values side by side in its last dimension."""


@dataclass(frozen=True)
class KnownModel:
    """What is known of a class of models.

    Attributes:
        name: the class.
        ordinary: whether it is known to treat tokens and positions as most decoders do, but for what the
            other attributes say.
        cache: why its cache does not hold a slot for each token; None where it does.
        positions: why its positions cannot be compared with the tokens; None where they can.
        legacy: the form of its cache where that is no cache object.
        state_in_modules: its modules keep what they read, and no cache is handed from step to step.
        rows_first: the first dimension of its activations is the row of the batch.
        lens: why a layer's output cannot be projected by norm and head; None where it can.
        attention: why no attention weights can be seen; None where they may be.
        kv: why its cache cannot be stored slot by slot; None where it may be.
    """

    name: str
    ordinary: bool = True
    cache: str | None = None
    positions: str | None = None
    legacy: LegacyForm = "pairs"
    state_in_modules: bool = False
    rows_first: bool = True
    lens: str | None = None
    attention: str | None = None
    kv: str | None = None


ANY_MODEL = KnownModel("model")
"""A model of which nothing is known to be out of the ordinary."""

_OWN_PROMPT = "it puts slots of a prompt of its own before the tokens"
_OWN_MEMORY = "it keeps hidden states, not keys and values"
_RECURRENT = "it keeps a recurrent state, not a slot for each token"
_BUCKETS = "it keeps hidden states and hash buckets, not keys and values"
_AVERAGES = "it keeps moving averages beside keys and values"
_IN_MODULES = "it keeps its state in its modules"
_NO_CACHE = "it has no KV cache"
_STREAMS = "its layers hand on two streams that it joins behind the last one"
_READ_TOGETHER = "its rows are codebooks, which it reads together"
_CODEBOOKS = "it predicts several codebooks with a head each"
_NGRAMS = "it predicts from streams of its own beside the layers' output"

_DIFFERENT = (
    KnownModel("CTRLLMHeadModel", legacy="stacked"),
    KnownModel("GPTBigCodeForCausalLM", legacy="merged"),
    KnownModel("CpmAntForCausalLM", cache=_OWN_PROMPT, positions=_OWN_PROMPT),
    KnownModel(
        "XLNetLMHeadModel",
        cache=_OWN_MEMORY,
        kv=_OWN_MEMORY,
        positions="its positions are relative, and it reads some tokens again",
        rows_first=False,
    ),
    KnownModel(
        "TransfoXLLMHeadModel",
        cache=_OWN_MEMORY,
        kv=_OWN_MEMORY,
        positions="its positions are relative",
        rows_first=False,
    ),
    KnownModel("OpenAIGPTLMHeadModel", kv=_NO_CACHE),
    KnownModel("JambaForCausalLM", kv="some of its layers keep a state in place of slots"),
    KnownModel(
        "XLMWithLMHeadModel",
        positions="it adds a token of its own behind the sequence",
        lens="its layers are no modules",
        kv=_NO_CACHE,
    ),
    KnownModel(
        "ReformerModelWithLMHead",
        cache=_BUCKETS,
        kv=_BUCKETS,
        lens=_STREAMS,
        attention="its attention forms no weights over all positions",
    ),
    KnownModel("RwkvForCausalLM", cache=_RECURRENT, kv=_RECURRENT, attention="it has no attention weights"),
    KnownModel(
        "MambaForCausalLM",
        cache=_RECURRENT,
        kv=_RECURRENT,
        positions="its cache_position counts the slots of its convolution",
    ),
    KnownModel(
        "Mamba2ForCausalLM",
        cache=_RECURRENT,
        kv=_RECURRENT,
        positions="it has none, and its attention mask only hides padding",
    ),
    KnownModel("MegaForCausalLM", cache=_AVERAGES, kv=_AVERAGES, rows_first=False),
    KnownModel(
        "RecurrentGemmaForCausalLM",
        cache=_IN_MODULES,
        kv=_IN_MODULES,
        positions="it cuts its attention mask to the window",
        state_in_modules=True,
    ),
    KnownModel(
        "MusicgenForCausalLM",
        positions=_READ_TOGETHER,
        rows_first=False,
        lens=_CODEBOOKS,
        attention=_READ_TOGETHER,
    ),
    KnownModel(
        "MusicgenMelodyForCausalLM",
        positions=_READ_TOGETHER,
        rows_first=False,
        lens=_CODEBOOKS,
        attention=_READ_TOGETHER,
    ),
    KnownModel("ProphetNetForCausalLM", lens=_NGRAMS),
    KnownModel("XLMProphetNetForCausalLM", lens=_NGRAMS),
)

_KNOWN = {
    **{name: KnownModel(name) for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()},
    **{model.name: model for model in _DIFFERENT},
}

_BESIDE_TEXT = ("pixel_values", "image", "video", "audio", "input_features", "input_values")


def known_model(model: object) -> KnownModel:
    """What is known of a model: what is known of its class, or the nearest that it derives from.

    Args:
        model: the model.
    """
    kind: type = untouched_class(type(model))
    return _known_model(kind)


@lru_cache(maxsize=64)
def _known_model(kind: type) -> KnownModel:
    own = (base for base in kind.__mro__ if base.__module__.startswith("transformers."))
    found = next((_KNOWN[base.__name__] for base in own if base.__name__ in _KNOWN), None)
    return found or KnownModel(kind.__name__, ordinary=False)


def reads_text_alone(inputs: Iterable[str]) -> bool:
    """Whether nothing but tokens goes into a forward pass; an image may become many positions.

    Args:
        inputs: names of the arguments that are given.
    """
    return not any(name.startswith(_BESIDE_TEXT) for name in inputs)
