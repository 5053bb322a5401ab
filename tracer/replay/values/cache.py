"""The KV cache of a moment, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.errors import UsageError
from tracer.library.release import assumed_release
from tracer.replay.moment import Moment
from tracer.replay.values.elements import Absent, Element, Elements, Whole
from tracer.replay.values.tensor import tensor
from tracer.replay.values.value import Fields, Listed, Make, Value, sequence
from tracer.schema.arrays import F32
from tracer.schema.cache import CacheGroup, CacheState
from tracer.schema.lineage import Parents
from tracer.tracefile.reading.kv_cache import Part


def cache_value(moment: Moment) -> Value:
    """The KV cache at a moment: the forward pass adds the new tokens' slots to it.

    Args:
        moment: the moment.
    """
    between = cache_of_candidates(moment)
    if between is not None:
        return between
    return returned_cache(moment) if moment.passed("model-call") else _cache_before(moment)


_REPEATED = Value("not recorded: each row is there once for each of its candidates, until one is taken")
_IN_TURN = Value("not recorded: one candidate after the other is added and taken out, until one is taken")


def cache_of_candidates(moment: Moment) -> Value | None:
    """The cache where a contrastive search has candidates in it, or has just read the prompt; else None.

    Args:
        moment: the moment.
    """
    if not moment.header.ranks or moment.passed("select"):
        return None
    in_turn = "repeat" not in moment.header.stops
    reads_prompt = moment.step.head.prompt_pass is not None and moment.passed("prefill")
    if not reads_prompt and not moment.passed("model-call" if in_turn else "repeat"):
        return None
    return _IN_TURN if in_turn else _REPEATED


def given_cache(moment: Moment) -> Value:
    """``past_key_values`` as the model is given it: an object grows in the forward pass, a tuple is replaced.

    Args:
        moment: the moment.
    """
    # Where a forward pass has the beams in parts, it is given copies, which make another object in the end.
    in_parts = moment.header.passes > 1 and moment.header.rows_move
    replaced = moment.step.head.cache_after.kind == "tuple" or in_parts
    between = cache_of_candidates(moment)
    if between is not None:
        return between
    # A tuple stays what it was when the rows of the candidates taken are selected into another one.
    if replaced and "repeat" in moment.header.stops and moment.passed("repeat"):
        return _REPEATED
    return _cache_before(moment) if replaced else cache_value(moment)


def returned_cache(moment: Moment) -> Value:
    """``past_key_values`` as the model returns it.

    Args:
        moment: a moment behind the forward pass.
    """
    between = cache_of_candidates(moment)
    if between is not None:
        return between
    assisted = moment.step.head.assisted
    rejected = 0 if assisted is None else len(assisted.proposals) - assisted.accepted
    if rejected and not moment.passed("crop"):
        return Value(f"not recorded: it has the slots of {rejected} rejected proposals until it is cropped")
    parents = moment.step.parents if moment.passed("reorder") else ()
    return _value(moment, moment.step.head.cache_after, moment.position.step, parents)


def _cache_before(moment: Moment) -> Value:
    step = moment.position.step - 1
    return _value(moment, moment.step.head.cache_before, step, moment.shelf.parents(step) if step else ())


def layer_value(moment: Moment, layer: int) -> Value:
    """Keys and values of a layer at a moment, with the norms of the slots that the step wrote.

    Args:
        moment: the moment.
        layer: index of the layer.
    """
    found = cache_value(moment).at(layer)
    written = moment.step.cache
    if not isinstance(found, Listed) or written is None or not moment.passed("model-call"):
        return found
    parts = {
        "norms of the new keys": lambda: Value(_span(written.key_norm[layer])),
        "norms of the new values": lambda: Value(_span(written.value_norm[layer])),
    }
    return Listed(
        found.text, found.type_name, found.count, found.part, parts=parts if written.key_norm.size else {}
    )


def _value(moment: Moment, state: CacheState, step: int, rows: Parents) -> Value:
    if state.kind == "none":
        return Value("None", "NoneType")
    text = f"{state.kind}: {state.layers} layers, {state.length} slots"
    part = partial(_pair, moment, state, step, rows)
    named = state.layers and state.kind != "tuple"
    parts = _attributes(moment, text, state, part) if named else {}
    return Listed(text, state.kind, state.layers, part, parts=parts)


def _attributes(
    moment: Moment, text: str, state: CacheState, part: Callable[[int], Listed]
) -> dict[str, Make]:
    """What the library's own object has."""
    if assumed_release(moment.header.versions.get("transformers", "")).layered_caches:
        return {"layers": lambda: Listed(text, "list", state.layers, lambda layer: _layer(part(layer)))}
    return {
        "key_cache": lambda: Listed(text, "list", state.layers, lambda layer: part(layer).at(0)),
        "value_cache": lambda: Listed(text, "list", state.layers, lambda layer: part(layer).at(1)),
    }


def _layer(pair: Listed) -> Value:
    names = ("keys", "values")[: pair.count]  # a layer without slots has neither
    parts: dict[str, Make] = {name: partial(pair.at, place) for place, name in enumerate(names)}
    return Fields(", ".join(parts), "layer", parts)


def _pair(moment: Moment, state: CacheState, step: int, rows: Parents, layer: int) -> Listed:
    first = min((group.first for group in state.groups), default=0)
    group = _group(state, first + layer)
    if group is None:
        return sequence([])
    slots = partial(_elements, moment, step, first + layer, rows=rows)
    key = tensor(group.key, slots("key", group.key.shape[-2]))
    value = tensor(group.value, slots("value", group.value.shape[-2]))
    return sequence([key, value])


def _group(state: CacheState, layer: int) -> CacheGroup | None:
    return next((group for group in state.groups if group.first <= layer <= group.last), None)


def _elements(moment: Moment, step: int, layer: int, part: Part, slots: int, *, rows: Parents) -> Elements:
    """The slots of all steps so far, where each of them was saved; rows may have been exchanged since."""
    shelf, name = moment.shelf, f"kv/{layer}/{part}"
    try:
        cache = shelf.cache_at(step)
    except UsageError as error:
        return Absent(str(error).rstrip("."))
    if slots < cache.length:
        return Absent("this cache drops slots, so their places are not known")
    unused = f"the slots behind the {cache.length} in use are not recorded" if slots > cache.length else ""
    prompt = shelf.run.tensor_layout(1, name)[1][-2]
    if prompt + step - 1 == cache.length and not moment.header.rows_move:
        return _Used(_Slots(lambda number: shelf.tensor(number, name), prompt), cache.length, unused)

    def read() -> npt.NDArray[Any]:
        found = cache.saved(layer, part).array()
        return found[[*rows]] if rows else found

    whole = Whole(lambda: shelf.array((step, layer, part, rows), read))
    return _Used(whole, cache.length, unused)


@dataclass(frozen=True)
class _Used:
    """Keys or values of the slots in use; a cache of fixed size has more.

    Attributes:
        slots: their elements.
        length: slots in use.
        missing: that there are others; empty if there are none.
    """

    slots: Elements
    length: int
    missing: str

    def at(self, place: tuple[int, ...]) -> Element:
        """The element, None behind the slots in use."""
        return self.slots.at(place) if place[-2] < self.length else None


@dataclass(frozen=True)
class _Slots:
    """Keys or values of a layer to which every step but the first added one slot; each is read alone.

    Attributes:
        read: reads what a step added.
        prompt: slots that step 1 added.
        missing: nothing is.
    """

    read: Callable[[int], npt.NDArray[Any]]
    prompt: int
    missing: str = ""

    def at(self, place: tuple[int, ...]) -> Element:
        """The element, from the step that wrote its slot."""
        *before, slot, last = place
        step, own = (1, slot) if slot < self.prompt else (slot - self.prompt + 2, 0)
        found: np.generic = self.read(step)[(*before, own, last)]
        return found


def _span(norms: F32) -> str:
    return f"{norms.min():.4g} to {norms.max():.4g}" if norms.size else "none"
