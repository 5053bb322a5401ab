"""Module calls as a table: equal decoder layers in one line, the modules inside below it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from reports.view.blocks import LayerRow, LayerTable, Range, Statistics
from reports.view.figures import shape, span
from reports.view.text import plain
from tracer.schema.calls import CallShape
from tracer.schema.columns import ModuleColumns
from tracer.schema.run import ModuleInfo
from tracer.schema.step import Step
from tracer.schema.tensors import TensorInfo

WHOLE_MODEL = "(the model itself)"
_LAYER = re.compile(r"(?P<stack>(?:[^.\d][^.]*\.)*)(?P<number>\d+)(?:\.(?P<inside>.+))?$")
_FEW_NAMES = 6
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)|^\d+(?=\.|$)")


def layer_table(modules: Sequence[ModuleInfo], step: Step) -> LayerTable | None:
    """Fold a step's module calls; None when they were not recorded.

    Args:
        modules: all modules of the run.
        step: the step.
    """
    prompt = step.head.prompt_pass
    several = step.head.passes > 1
    return _layer_table(modules, step, 0 if prompt is None else prompt.calls, None, several=several)


def prompt_layers(modules: Sequence[ModuleInfo], step: Step) -> LayerTable | None:
    """Fold the module calls of the forward pass over the prompt, where a step has another one behind it.

    Args:
        modules: all modules of the run.
        step: the step.
    """
    prompt = step.head.prompt_pass
    return None if prompt is None else _layer_table(modules, step, 0, prompt.calls)


def _layer_table(
    modules: Sequence[ModuleInfo], step: Step, first: int, end: int | None, *, several: bool = False
) -> LayerTable | None:
    """Fold the module calls from one place to another; None when they were not recorded.

    Args:
        modules: all modules of the run.
        step: the step.
        first: the first place.
        end: the place behind the last; None for all.
        several: whether they are of several forward passes, which are folded too.
    """
    if step.modules is None or step.layout is None:
        return None
    calls = [
        _call(modules[module], step.modules, index, step.shapes)
        for index, module in enumerate(step.layout.modules[:end])
        if first <= index < len(step.modules.shapes)
    ]
    if several:
        place = {call.name: index for index, call in reversed([*enumerate(calls)])}
        calls.sort(key=lambda call: place[call.name])
    return LayerTable(
        rows=tuple(_rows(calls)),
        calls=len(calls),
        not_called=_folded_names(modules[module].name for module in step.layout.not_called),
    )


def layer_of(module: str) -> str | None:
    """Name of the layer that a module is or lies in; None for one outside all layers.

    Args:
        module: name of the module.
    """
    found = _LAYER.match(module)
    return f"{found['stack']}{found['number']}" if found else None


@dataclass(frozen=True)
class _Call:
    """One module call, and where it belongs: ``model.layers.`` ``3`` ``self_attn.q_proj``."""

    name: str
    class_name: str
    stack: str
    layer: int | None
    inside: str
    inputs: TensorInfo | None
    outputs: TensorInfo | None
    statistics: Statistics | None


def _call(module: ModuleInfo, columns: ModuleColumns, index: int, shapes: dict[int, CallShape]) -> _Call:
    found = _LAYER.match(module.name)
    call_shape = shapes.get(int(columns.shapes[index]), CallShape(inputs=(), outputs=()))
    return _Call(
        name=module.name,
        class_name=module.class_name,
        stack=found["stack"] if found else "",
        layer=int(found["number"]) if found else None,
        inside=(found["inside"] or "") if found else "",
        inputs=call_shape.inputs[0] if call_shape.inputs else None,
        outputs=call_shape.outputs[0] if call_shape.outputs else None,
        statistics=_statistics(columns, index),
    )


def _statistics(columns: ModuleColumns, index: int) -> Statistics | None:
    nonfinite = int(columns.nonfinite[index])
    if nonfinite < 0:
        return None
    mean, std = float(columns.mean[index]), float(columns.std[index])
    return Statistics(
        Range(mean, mean), Range(std, std), float(columns.low[index]), float(columns.high[index]), nonfinite
    )


def _rows(calls: list[_Call]) -> Iterable[LayerRow]:
    """Rows in the order of the calls: plain modules one by one, layers in groups of equal ones."""
    for (in_layer, stack), found in groupby(calls, key=lambda call: (call.layer is not None, call.stack)):
        members = list(found)
        if in_layer:
            yield from _layer_rows(stack, members)
        else:
            yield from (_row(name or WHOLE_MODEL, [*same]) for name, same in groupby(members, key=_name))


def _name(call: _Call) -> str:
    return call.name


def _layer_rows(stack: str, calls: list[_Call]) -> Iterable[LayerRow]:
    layers = [(number, list(found)) for number, found in groupby(calls, key=lambda call: call.layer or 0)]
    for _, found in groupby(layers, key=lambda layer: _signature(layer[1])):
        group = list(found)
        name = f"{stack}{span(group[0][0], group[-1][0])}"
        yield _equal_layers_row(name, [call for _, members in group for call in members])


def _equal_layers_row(name: str, calls: list[_Call]) -> LayerRow:
    """One row for the calls of equal layers, with the modules inside them below it."""
    own = [call for call in calls if not call.inside]
    inner = [call for call in calls if call.inside]
    return _row(name, own or inner, children=_children(inner) if own else ())


def _signature(layer: list[_Call]) -> tuple[object, ...]:
    """What must be equal for two layers to share a line: the layer's own class, inputs and outputs."""
    own = [call for call in layer if not call.inside] or layer
    return tuple((call.class_name, call.inputs, call.outputs) for call in own)


def _children(calls: list[_Call]) -> tuple[LayerRow, ...]:
    """The modules inside the layers, the same module of all layers in one row, experts in one row."""
    by_name: dict[tuple[str, str], list[_Call]] = {}
    for call in calls:
        by_name.setdefault((_NUMBER.sub("*", call.inside), call.class_name), []).append(call)
    return tuple(_row(name, members) for (name, _), members in by_name.items())


def _row(name: str, calls: list[_Call], children: tuple[LayerRow, ...] = ()) -> LayerRow:
    outputs = [call.outputs for call in calls if call.outputs is not None]
    inputs = [call.inputs for call in calls if call.inputs is not None]
    return LayerRow(
        name=plain(name),
        class_name=plain(calls[0].class_name),
        calls=len(calls),
        inputs=_merged_shape(inputs),
        outputs=_merged_shape(outputs),
        dtype=_merged(info.dtype for info in outputs),
        device=_merged(info.device for info in outputs),
        statistics=_merged_statistics(call.statistics for call in calls),
        children=children,
    )


def _merged(names: Iterable[str]) -> str | None:
    return ", ".join(dict.fromkeys(names)) or None


def _merged_shape(tensors: list[TensorInfo]) -> str | None:
    """One shape for all, a differing dimension as a range from smallest to largest."""
    distinct = {tensor.shape for tensor in tensors}
    if not distinct:
        return None
    if len({len(sizes) for sizes in distinct}) > 1:
        return " or ".join(shape(sizes) for sizes in sorted(distinct))
    spans = [span(min(sizes), max(sizes)) for sizes in zip(*distinct, strict=True)]
    return f"[{', '.join(spans)}]"


def _merged_statistics(found: Iterable[Statistics | None]) -> Statistics | None:
    known = [statistics for statistics in found if statistics is not None]
    if not known:
        return None
    return Statistics(
        mean=_merged_range(statistics.mean for statistics in known),
        std=_merged_range(statistics.std for statistics in known),
        low=_merged_range(Range(statistics.low, statistics.low) for statistics in known).low,
        high=_merged_range(Range(statistics.high, statistics.high) for statistics in known).high,
        nonfinite=sum(statistics.nonfinite for statistics in known),
    )


def _merged_range(ranges: Iterable[Range]) -> Range:
    """The range around all; NaN ends are passed over where there is anything else."""
    ends = [end for found in ranges for end in (found.low, found.high)]
    known = [end for end in ends if not math.isnan(end)]
    return Range(min(known), max(known)) if known else Range(math.nan, math.nan)


def module_names(names: Sequence[str]) -> str:
    """Names of modules in one line: each where they are few, else with numbers folded.

    Args:
        names: the names; empty for the model itself.
    """
    if len(names) <= _FEW_NAMES:
        return ", ".join(plain(name) or WHOLE_MODEL for name in names)
    return ", ".join(_folded_names(names))


def _folded_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names with numbers folded: ``model.layers.*.rotary_emb (28)``."""
    counts: dict[str, int] = {}
    for name in names:
        folded = plain(_NUMBER.sub("*", name)) or WHOLE_MODEL
        counts[folded] = counts.get(folded, 0) + 1
    return tuple(name if number == 1 else f"{name} ({number})" for name, number in counts.items())
