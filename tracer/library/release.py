"""The releases of transformers that can be traced: a closed table, one family of releases a row."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from types import MappingProxyType

from tracer.errors import UnsupportedError
from tracer.library.loop import Loop
from tracer.library.loops.assisted import ASSISTED_4_44, ASSISTED_4_57, ASSISTED_5
from tracer.library.loops.beam_search import BEAM_SEARCH_4_44, BEAM_SEARCH_4_57, BEAM_SEARCH_5
from tracer.library.loops.constrained_search import CONSTRAINED_SEARCH_4_44
from tracer.library.loops.contrastive import CONTRASTIVE_4_44
from tracer.library.loops.dola import DOLA_4_44
from tracer.library.loops.group_search import GROUP_SEARCH_4_44
from tracer.library.loops.sample import SAMPLE_4_44, SAMPLE_4_57, SAMPLE_5

REFERENCE = "4.44.2"
"""The release that the package requires by default."""

ANY = "TRACE_GENERATE_ANY_TRANSFORMERS"
"""Environment variable: set to 1, a release that is not in the table is traced like the newest family."""


@dataclass(frozen=True)
class Release:
    """A family of releases, alike in everything that tracing relies on.

    Attributes:
        name: what messages call it.
        versions: the releases, oldest first.
        loops: the decoding loops that are traced, that of greedy decoding and sampling first.
        on_class: ``generate()`` looks the loop up on the model's class, where an attribute of the instance is
            not seen.
        float32_scores: scores are turned into float32 before the first processor; else they have the dtype of
            the logits.
        absent_settings: names of generation settings that other families have.
        caches: values of the setting ``cache_implementation``.
        layered_caches: a cache is a list of layers, each with its keys and values; else it has a list of all
            keys and one of all values.
    """

    name: str
    versions: tuple[str, ...]
    loops: tuple[Loop, ...]
    on_class: bool = False
    float32_scores: bool = False
    absent_settings: frozenset[str] = frozenset()
    caches: tuple[str, ...] = ()
    layered_caches: bool = False

    @property
    def sample(self) -> Loop:
        """The loop of greedy decoding and sampling."""
        return self.loops[0]

    @property
    def untraced(self) -> Mapping[str, str]:
        """Methods of loops that are not traced, with the library's name of their mode."""
        traced = {loop.method for loop in self.loops}
        return {method: mode for method, mode in _OTHER_LOOPS.items() if method not in traced}

    def loop_of(self, mode: str) -> Loop | None:
        """The loop that a decoding mode runs; None if it is not traced.

        Args:
            mode: the library's name of the mode.
        """
        return next((loop for loop in self.loops if mode in loop.modes), None)


_OTHER_LOOPS = MappingProxyType(
    {
        "_beam_search": "beam_search",
        "_group_beam_search": "group_beam_search",
        "_constrained_beam_search": "constrained_beam_search",
        "_assisted_decoding": "assisted_generation",
        "_contrastive_search": "contrastive_search",
        "_dola_decoding": "dola_generation",
    }
)
"""Methods of other loops; those that went into code of their own on the hub are not found, and not called."""

_SINCE_4_57 = frozenset(
    {
        "assistant_confidence_threshold",
        "assistant_early_exit",
        "assistant_lookbehind",
        "compile_config",
        "disable_compile",
        "is_assistant",
        "prefill_chunk_size",
        "target_lookbehind",
    }
)
_SINCE_5 = frozenset(
    {
        "assistant_ensemble_weight",
        "continuous_batching_config",
        "max_cache_len",
        "speculation_type",
        "top_h",
        "use_mtp",
    }
)
_GONE_IN_4_57 = frozenset({"forced_decoder_ids", "generation_kwargs"})

_STATIC_CACHES = (
    "static",
    "offloaded_static",
    "sliding_window",
    "hybrid",
    "hybrid_chunked",
    "offloaded_hybrid",
    "offloaded_hybrid_chunked",
)

RELEASES: tuple[Release, ...] = (
    Release(
        "4.44",
        ("4.44.2",),
        (
            SAMPLE_4_44,
            DOLA_4_44,
            BEAM_SEARCH_4_44,
            GROUP_SEARCH_4_44,
            CONSTRAINED_SEARCH_4_44,
            ASSISTED_4_44,
            CONTRASTIVE_4_44,
        ),
        absent_settings=_SINCE_4_57 | _SINCE_5,
        caches=("static", "offloaded_static", "sliding_window", "hybrid", "mamba", "quantized"),
    ),
    Release(
        "4.57",
        ("4.57.1", "4.57.2", "4.57.3", "4.57.4", "4.57.5", "4.57.6"),
        (SAMPLE_4_57, BEAM_SEARCH_4_57, ASSISTED_4_57),
        on_class=True,
        float32_scores=True,
        layered_caches=True,
        absent_settings=_GONE_IN_4_57 | _SINCE_5,
        caches=(*_STATIC_CACHES, "dynamic", "dynamic_full", "offloaded", "quantized"),
    ),
    Release(
        "5.16 and later",
        (
            "5.16.0",
            "5.16.1",
            "5.17.0",
            "5.18.0",
            "5.19.0",
            "5.20.0",
            "5.20.1",
            "5.20.2",
            "5.21.0",
            "5.21.1",
            "5.22.0",
            "5.22.1",
            "5.22.2",
            "5.23.0",
            "5.24.0",
        ),
        (SAMPLE_5, BEAM_SEARCH_5, ASSISTED_5),
        on_class=True,
        float32_scores=True,
        layered_caches=True,
        absent_settings=_GONE_IN_4_57 | {"return_legacy_cache"},
        caches=(*_STATIC_CACHES, "dynamic", "offloaded", "quantized"),
    ),
)
"""The families, oldest first."""


def release_of(version: str) -> Release | None:
    """The family of a release; None for one that is not in the table.

    Args:
        version: version of transformers.
    """
    return next((release for release in RELEASES if version in release.versions), None)


def assumed_release(version: str) -> Release:
    """The family of a release, or the newest for one that is not in the table.

    Args:
        version: version of transformers.
    """
    return release_of(version) or RELEASES[-1]


@cache
def installed_release() -> Release:
    """The family of the installed release.

    Raises:
        UnsupportedError: it is not in the table, and :data:`ANY` is not set; or there is none.
    """
    try:
        found = metadata.version("transformers")
    except metadata.PackageNotFoundError:
        raise UnsupportedError(
            f"transformers is not installed; install it with: pip install transformers=={REFERENCE}"
        ) from None
    release = release_of(found)
    if release is None and os.environ.get(ANY) != "1":
        raise UnsupportedError(
            f"transformers {found} cannot be traced; releases that can are {_table()}. Install one "
            f"(pip install transformers=={REFERENCE}), or set {ANY}=1 to try it like the newest of them."
        )
    return release or RELEASES[-1]


def _table() -> str:
    return ", ".join(
        release.versions[0]
        if len(release.versions) == 1
        else f"{release.versions[0]} to {release.versions[-1]}"
        for release in RELEASES
    )
