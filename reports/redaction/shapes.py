"""Which texts of a record stay: those of a shape that can say nothing of what was read or generated.

A text that lacks the shape its field should have is left out, whoever wrote the trace.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from tracer.schema.tensors import ITEM_SIZES

LEFT_OUT = "(left out)"

Keep: TypeAlias = Callable[[str, str], str]
"""What stays of a text, from its name (of the field, or its key in a mapping) and the text."""

_NAME = re.compile(r"[A-Za-z_]\w{0,127}")
_PATH_OF_MODULE = re.compile(r"[\w.-]{0,256}")
_DEVICE = re.compile(r"(?:cpu|cuda|meta|disk|mps|xpu|xla|hpu|npu|mtia|privateuseone)(?::\d{1,4})?")
_CACHE = re.compile(r"\w{0,40}Cache|none|tuple|list")
_HEXADECIMAL = re.compile(r"[0-9a-f]*")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]{5,15}(?:Z|[+-]\d\d:?\d\d)?")
_VERSION = re.compile(r"\d[\w.+!-]{0,60}")
_QUANTIZATION = re.compile(r"[\w-]{1,40}(?:, \d{1,2} bits?)?")
_ERROR = re.compile(r"([A-Za-z_][\w.]{0,80}(?:Error|Exception|Warning|Interrupt|Exit))\b")
_CAPTURES = frozenset({"logits", "hidden", "kv", "lens", "attention", "modules"})
_CONSTANT = re.compile(r"True|False|None|[+-]?(?:inf|nan)|\w{0,40}Cache")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,3})?")
_NUMBERS = re.compile(r"\[\d+(?:, \d+)*\]")
_ARGUMENT = r"(?:\w+=)?(?:-?[\d.]+(?:e-?\d+)?|True|False|None|\([\d., ]*\)|\.\.\.)"
_TREE_LINE = re.compile(
    r"\s*(?:\(\w+\): )?(?:\(\d+-\d+\): )?(?:\d+ x )?[A-Za-z_]\w*"
    rf"\((?:{_ARGUMENT}(?:, {_ARGUMENT})*\)?|\))?|\s*\)"
)

_FIGURES = frozenset(
    {
        *(
            "temperature",
            "top_h",
            "top_n",
            "top_k",
            "top_p",
            "min_p",
            "mass",
            "typical_p",
            "epsilon",
            "epsilon_cutoff",
        ),
        *("eta_cutoff", "penalty", "repetition_penalty", "encoder_repetition_penalty", "length_penalty"),
        *("ngram_size", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "guidance_scale"),
        *(
            "prompt_ignore_length",
            "min_length",
            "max_length",
            "min_new_tokens",
            "max_new_tokens",
            "prompt_length_to_skip",
        ),
        *("max_position_embeddings", "max_time", "initial_timestamp", "min_tokens_to_keep", "filter_value"),
        *("num_beams", "num_beam_groups", "num_return_sequences", "penalty_alpha", "diversity_penalty"),
        *("num_logits_to_keep", "regulation_start", "regulation_factor", "max_matching_ngram_size"),
    }
)
"""Settings whose whole numbers are figures; a whole number of any other may be a token id."""


def _of_shape(pattern: re.Pattern[str]) -> Keep:
    return lambda _, text: text if pattern.fullmatch(text) else LEFT_OUT


code_name: Keep = _of_shape(_NAME)
"""Names of classes, tensors and implementations."""

module_path: Keep = _of_shape(_PATH_OF_MODULE)
device: Keep = _of_shape(_DEVICE)
cache_kind: Keep = _of_shape(_CACHE)
hexadecimal: Keep = _of_shape(_HEXADECIMAL)
moment: Keep = _of_shape(_MOMENT)
quantization: Keep = _of_shape(_QUANTIZATION)
version: Keep = _of_shape(_VERSION)


def dtype(_name: str, text: str) -> str:
    """A dtype that is known."""
    return text if text in ITEM_SIZES else LEFT_OUT


def is_figure(name: str | None) -> bool:
    """Whether a setting of this name is a figure, whatever its value."""
    return name in _FIGURES


def setting(name: str, text: str) -> str:
    """A setting that is a figure, a flag or a kind of cache; anything else may hold texts or token ids."""
    if _CONSTANT.fullmatch(text):
        return text
    if _NUMBER.fullmatch(text) and (name in _FIGURES or not float(text).is_integer()):
        return text
    return text if name in _FIGURES and _NUMBERS.fullmatch(text) else LEFT_OUT


def capture(_name: str, text: str) -> str:
    """What ``--save`` names, without a pattern for modules."""
    kind, separator, _ = text.partition("=")
    if kind not in _CAPTURES:
        return LEFT_OUT
    return f"{kind}={LEFT_OUT}" if separator else kind


def kind_of_error(_name: str, text: str) -> str:
    """The class of an exception."""
    kind = _ERROR.match(text)
    return f"{kind[0]}: {LEFT_OUT}" if kind else LEFT_OUT


def module_tree(_name: str, text: str) -> str:
    """The module tree; a line that holds more than names and figures is left out."""
    return "\n".join(
        line if _TREE_LINE.fullmatch(line) else f"{line[: len(line) - len(line.lstrip(' '))]}{LEFT_OUT}"
        for line in text.split("\n")
    )


def key(text: str) -> str:
    """The name of something in a mapping."""
    return text if _PATH_OF_MODULE.fullmatch(text) else LEFT_OUT
