"""The decoding modes of ``generate()``: which settings lead to which, and which are not traced."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tracer.errors import UnsupportedError, UsageError
from tracer.library.release import installed_release
from tracer.schema.run import LoopName

_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "beam_search": "beam search (num_beams > 1)",
        "beam_sample": "beam sampling (num_beams > 1 with do_sample)",
        "group_beam_search": "group beam search (num_beam_groups > 1)",
        "constrained_beam_search": "constrained beam search (constraints, force_words_ids)",
        "assisted_generation": "assisted decoding (assistant_model, prompt_lookup_num_tokens, use_mtp)",
        "contrastive_search": "contrastive search (penalty_alpha with top_k > 1)",
        "dola_generation": "DoLa decoding (dola_layers)",
    }
)
"""Modes beside greedy decoding and sampling, by the library's names, and how a message calls them."""


_MARKED = {
    "dola_generation": ("dola_layers",),
    "assisted_generation": ("assistant_model", "prompt_lookup_num_tokens", "assistant_early_exit", "use_mtp"),
    "constrained_beam_search": ("constraints", "force_words_ids"),
}
"""Modes that the mere presence of a setting leads to, the strongest first."""

_OFF = (None, False)
"""Values of those settings that leave them off."""


def require_traced_mode(settings: Mapping[str, Any], of: str = "") -> None:
    """Refuse settings that lead to an untraced mode; transformers is not imported for it.

    Args:
        settings: generation settings by their names in ``GenerationConfig``; what is missing has its default.
        of: where the settings are from, for the message.

    Raises:
        UnsupportedError: naming the mode.
        UsageError: the mode refuses a setting that it has in other releases.
    """
    mode = decoding_mode(settings)
    loop = installed_release().loop_of(mode)
    if loop is None:
        raise untraced(mode, of)
    refused = next((name for name in loop.refuses if settings.get(name)), None)
    if refused is not None:
        raise UsageError(
            f"{refused}{_place(of)} is not possible: the {loop.title} of transformers "
            f"{installed_release().name} refuses it. Leave it out."
        )
    if settings.get("use_mtp"):
        raise own_layers(of)


def require_same_loop(method: LoopName, settings: Mapping[str, Any]) -> None:
    """Refuse a fork whose settings lead to another decoding loop than its run's.

    Args:
        method: the loop of the run.
        settings: generation settings of the fork.

    Raises:
        UnsupportedError: naming the other mode.
    """
    mode = decoding_mode(settings)
    loop = installed_release().loop_of(mode)
    if loop is None or loop.method != method:
        raise UnsupportedError(
            f"{_NAMES.get(mode, mode)}: a fork stays in the decoding loop of its run, {method}. "
            "Leave the setting out, or generate anew."
        )


def own_layers(of: str = "") -> UnsupportedError:
    """The error for assisted decoding whose proposals are by layers of the model's own.

    Args:
        of: where the setting is from.
    """
    return UnsupportedError(
        f"Assisted decoding by layers of the model's own (use_mtp){_place(of)} is not traced: a draft model "
        "and prompt lookup alone are. Change the generation settings, or generate outside of the trace."
    )


def untraced(mode: str, of: str = "") -> UnsupportedError:
    """The error for an untraced mode.

    Args:
        mode: the library's name of it.
        of: where the settings are from.
    """
    release = installed_release()
    *first, last = (loop.title for loop in release.loops)
    traced = f"{', '.join(first)} and {last}" if first else last
    return UnsupportedError(
        f"{_NAMES[mode]}{_place(of)} is not traced with transformers {release.name}; {traced} are. "
        "Change the generation settings or generate outside of the trace."
    )


def _place(of: str) -> str:
    return f", which {of} sets," if of else ""


def decoding_mode(settings: Mapping[str, Any]) -> str:
    """The mode that settings lead to, as ``GenerationConfig.get_generation_mode`` decides it.

    Args:
        settings: generation settings; what is missing has its default.
    """
    for mode, names in _MARKED.items():
        if any(settings.get(name) not in _OFF for name in names):
            return mode
    sampling = settings.get("do_sample")
    if settings.get("num_beams") not in (None, 1):
        grouped = _above(settings, "num_beam_groups", 1)
        return "group_beam_search" if grouped else "beam_sample" if sampling else "beam_search"
    if sampling:
        return "sample"
    contrastive = _above({"top_k": 50, **settings}, "top_k", 1) and _above(settings, "penalty_alpha", 0)
    return "contrastive_search" if contrastive else "greedy_search"


def _above(settings: Mapping[str, Any], name: str, limit: float) -> bool:
    value = settings.get(name)
    return isinstance(value, int | float) and value > limit
