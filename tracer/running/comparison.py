"""Pairs of runs that differ in one thing: the cache, attention, dtype, the batch or the seed."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tracer.errors import UsageError
from tracer.loading.model_spec import ModelSpec
from tracer.running.request import GenerationRequest

Vary = Literal["cache", "attn", "dtype", "batch", "seed"]


@dataclass(frozen=True)
class Variant:
    """One run of a pair.

    Attributes:
        label: what distinguishes it, e.g. ``cache off``.
        request: what to generate.
    """

    label: str
    request: GenerationRequest


def make_pair(
    request: GenerationRequest, vary: Vary, folder: Path, values: Sequence[str] = ()
) -> tuple[Variant, Variant]:
    """Two requests that differ in one thing.

    Everything else is the same, the seed too. Unless the seed is what varies or the request says otherwise,
    tokens are chosen greedily: a draw would hide what the numbers show.

    Args:
        request: what both have in common; its path is not used.
        vary: what differs.
        folder: where the traces go.
        values: the two values of attention, dtype or seed in place of the default ones.

    Raises:
        UsageError: values where none can be chosen, or not exactly two different ones.
    """
    if values and vary in ("cache", "batch"):
        raise UsageError(f"--values has no meaning with --vary {vary}.")
    if values and len(set(values)) != 2:
        raise UsageError(f"--values {','.join(values)}: two different values are needed, e.g. eager,sdpa.")
    seed = secrets.randbelow(1 << 31) if request.seed is None else request.seed
    settings = {"do_sample": vary == "seed", **request.settings}
    common = replace(request, seed=seed, settings=settings)
    return _with_files(_PAIRS[vary](common, tuple(values)), vary, folder)


Pair = tuple[Variant, Variant]
Values = tuple[str, ...]


def _cache(request: GenerationRequest, _values: Values) -> Pair:
    on, off = ({**request.settings, "use_cache": use} for use in (True, False))
    return (
        Variant("cache on", replace(request, settings=on)),
        Variant("cache off", replace(request, settings=off)),
    )


def _attention(request: GenerationRequest, values: Values) -> Pair:
    return _models(request, values or ("eager", "sdpa"), lambda model, name: replace(model, attention=name))


def _dtype(request: GenerationRequest, values: Values) -> Pair:
    return _models(request, values or ("float32", "bfloat16"), lambda model, name: replace(model, dtype=name))


def _models(
    request: GenerationRequest, values: Values, change: Callable[[ModelSpec, str], ModelSpec]
) -> Pair:
    a, b = (Variant(value, replace(request, model=change(request.model, value))) for value in values)
    return a, b


def _batch(request: GenerationRequest, _values: Values) -> Pair:
    prompt = request.prompt
    if not prompt.prompts:
        raise UsageError("--vary batch needs a --prompt.")
    first = prompt.prompts[0]
    # A companion that is longer whatever the tokenizer, so that the prompt is padded beside it.
    others = prompt.prompts[1:] or (f"{first} {first} {first}",)
    return (
        Variant("alone", replace(request, prompt=replace(prompt, prompts=(first,)))),
        Variant("in a batch", replace(request, prompt=replace(prompt, prompts=(first, *others)))),
    )


def _seed(request: GenerationRequest, values: Values) -> Pair:
    start = request.seed or 0
    try:
        seeds = [int(value) for value in values] or [start, start + 1]
    except ValueError as error:
        raise UsageError(f"--values {','.join(values)}: seeds are whole numbers.") from error
    if any(not 0 <= seed < 1 << 64 for seed in seeds):
        raise UsageError(f"--values {','.join(values)}: a seed is at least 0 and below 2 to the 64.")
    a, b = (Variant(f"seed {seed}", replace(request, seed=seed)) for seed in seeds)
    return a, b


_PAIRS: dict[Vary, Callable[[GenerationRequest, Values], Pair]] = {
    "cache": _cache,
    "attn": _attention,
    "dtype": _dtype,
    "batch": _batch,
    "seed": _seed,
}


def _with_files(pair: Pair, vary: Vary, folder: Path) -> Pair:
    """The pair with a trace file each."""
    a, b = (
        replace(variant, request=replace(variant.request, path=folder / _file_name(vary, variant.label)))
        for variant in pair
    )
    return a, b


def _file_name(vary: Vary, label: str) -> str:
    words = re.sub(r"[^\w.]+", "-", label.removeprefix(f"{vary} ")).strip("-")
    return f"{vary}-{words}.trace"
