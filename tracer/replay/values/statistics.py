"""Statistics of a module's output in one line."""

from __future__ import annotations

import math

from tracer.schema.run import RunHeader
from tracer.schema.step import Step
from tracer.schema.tensors import TensorInfo


def call_statistics(step: Step, place: int) -> str:
    """Statistics of the first output of a module call; empty where none were taken.

    Args:
        step: the step.
        place: the call's place in the step's layout.
    """
    columns = step.modules
    if columns is None or columns.nonfinite[place] < 0:
        return ""
    figures = {
        "mean": columns.mean[place],
        "std": columns.std[place],
        "min": columns.low[place],
        "max": columns.high[place],
    }
    text = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if not math.isnan(value))
    bad = int(columns.nonfinite[place])
    return f"{text}, {bad:,} not finite".lstrip(", ") if bad else text


def output_statistics(step: Step, header: RunHeader, info: TensorInfo, *, of_model: bool) -> str:
    """Statistics of what the model or its decoder returned; empty where they are not known.

    Args:
        step: the step.
        header: the run's header.
        info: spec of the tensor, by which its module is told.
        of_model: the model itself, else one of its direct children.
    """
    if step.layout is None or step.modules is None:
        return ""
    for place, module in enumerate(step.layout.modules):
        name = header.modules[module].name
        shape = step.shapes[int(step.modules.shapes[place])]
        if _is_meant(name, of_model=of_model) and shape.outputs[:1] == (info,):
            return call_statistics(step, place)
    return ""


def _is_meant(module: str, *, of_model: bool) -> bool:
    return not module if of_model else bool(module) and "." not in module
