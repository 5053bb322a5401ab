"""Rebuild processors from their records, and describe them as records again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tracer.analysis.processors.edits import (
    ExponentialDecay,
    ForcedBeginning,
    ForcedEnd,
    HammingDiversity,
    MinLength,
    MinNewTokens,
    NoRepeatNGram,
    Normalisation,
    RemoveInvalid,
    RepetitionPenalty,
    Suppress,
    SuppressAtBegin,
    Temperature,
)
from tracer.analysis.processors.filters import Epsilon, Eta, MinP, TopH, TopK, TopP, Typical
from tracer.analysis.processors.processor import Opaque, PlacedProcessor, Processor
from tracer.analysis.processors.roles import roles
from tracer.analysis.processors.settings import KNOBS
from tracer.schema.run import ListName, ProcessorInfo, RunHeader
from tracer.schema.setting_text import parse_integer, parse_integers, parse_number

_KINDS: tuple[type[Processor], ...] = (
    Temperature,
    TopH,
    TopK,
    TopP,
    MinP,
    Typical,
    Epsilon,
    Eta,
    Normalisation,
    RepetitionPenalty,
    NoRepeatNGram,
    MinLength,
    MinNewTokens,
    Suppress,
    SuppressAtBegin,
    ForcedBeginning,
    ForcedEnd,
    ExponentialDecay,
    RemoveInvalid,
)
KINDS: Mapping[str, type[Processor]] = {kind.class_name: kind for kind in _KINDS}
"""Processors that can be repeated, by their class in transformers."""

_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "float": parse_number,
    "int": parse_integer,
    "tuple[int, ...]": parse_integers,
}
"""How a setting is read back, by the annotation of the processor's field."""


def parse_processor(info: ProcessorInfo) -> Processor:
    """Rebuild a processor from its record; an ``Opaque`` one if it cannot be repeated.

    Args:
        info: class and settings.
    """
    kind = KINDS.get(info.class_name) if info.of_transformers else None
    if kind is None:
        return Opaque(info)
    try:
        processor = kind(**_arguments(kind, info.settings))
        return processor if _is_possible(processor) else Opaque(info)
    except (ValueError, TypeError, SyntaxError, OverflowError, MemoryError, RecursionError):
        return Opaque(info)


def _is_possible(processor: Processor) -> bool:
    """Whether transformers' own class takes these settings; a trace may claim any."""
    knob = next((knob for knob in KNOBS.values() if knob.kind is type(processor)), None)
    if knob is None:
        return True
    value = getattr(processor, knob.field)
    return knob.allows(value) and not (isinstance(processor, TopK) and value < 1)


def parse_processors(header: RunHeader) -> tuple[PlacedProcessor, ...]:
    """Rebuild the processors of a run, in order.

    Args:
        header: the run's header.
    """
    pairs = zip(roles(header), header.processors, strict=True)
    return tuple(
        PlacedProcessor(role, _diversity(info, header) or parse_processor(info)) for role, info in pairs
    )


def _diversity(info: ProcessorInfo, header: RunHeader) -> HammingDiversity | None:
    """What lets groups pay, whose penalty is a setting of the run alone."""
    if info.class_name != HammingDiversity.class_name or not info.of_transformers:
        return None
    try:
        penalty = parse_number(header.generation_config.get("diversity_penalty", ""))
    except ValueError:
        return None
    return HammingDiversity(penalty) if penalty > 0 else None


def describe(placed: PlacedProcessor, *, one_list: bool = False) -> ProcessorInfo:
    """Describe a processor as a record: the inverse of :func:`parse_processors`.

    Args:
        placed: the processor.
        one_list: whether its run has one list for all of them.
    """
    processor = placed.processor
    if isinstance(processor, Opaque):
        return processor.info
    settings = {
        field.name: _text(getattr(processor, field.name))
        for field in dataclasses.fields(processor)
        if field.default is dataclasses.MISSING or getattr(processor, field.name) != ()
    }
    list_name: ListName = "logits_warper" if placed.role == "warper" and not one_list else "logits_processor"
    return ProcessorInfo(list_name=list_name, class_name=placed.name, settings=settings)


def own_settings(info: ProcessorInfo) -> dict[str, str]:
    """The recorded settings that change what a processor does; all of one that cannot be repeated.

    Releases differ in the attributes of their classes: one that another has not, and one at its default, says
    nothing.

    Args:
        info: class and settings.
    """
    processor = parse_processor(info)
    if isinstance(processor, Opaque):
        return dict(info.settings)
    changed = {
        field.name
        for field in dataclasses.fields(processor)
        if getattr(processor, field.name) != field.default
    }
    return {name: value for name, value in info.settings.items() if name in changed}


def settings_of(processor: Processor) -> dict[str, Any]:
    """Settings by their name in transformers."""
    return {field.name: getattr(processor, field.name) for field in dataclasses.fields(processor)}


def _arguments(kind: type[Processor], settings: Mapping[str, str]) -> dict[str, Any]:
    """Settings as values; a missing one takes its default, if it has one."""
    types = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    return {name: _PARSERS[types[name]](settings[name]) for name in types if name in settings}


def _text(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
