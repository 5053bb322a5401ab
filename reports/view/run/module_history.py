"""Shapes and statistics of all module calls over a run, in columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.schema.arrays import F32, I32
from tracer.schema.calls import CallLayout, CallShape
from tracer.schema.columns import ModuleColumns
from tracer.schema.step import Step


@dataclass(frozen=True, eq=False)
class ModuleHistory:
    """Module calls of N steps, at most C calls each, in the order of each step's layout.

    Attributes:
        steps: ``[N]`` numbers of the collected steps.
        stride: every ``stride``-th step is collected.
        layouts: the different layouts.
        layout: ``[N]`` index into ``layouts``.
        shapes: the call shapes by number.
        shape_sets: ``[K, C]`` the different rows of shape numbers, -1 where a step has fewer calls.
        shape_set: ``[N]`` index into ``shape_sets``.
        mean: ``[N, C]``, NaN where no statistics were taken; so are the next three.
        std: ``[N, C]``.
        low: ``[N, C]``.
        high: ``[N, C]``.
        nonfinite: ``[N, C]`` NaN and infinite values, -1 where no statistics were taken.
    """

    steps: I32
    stride: int
    layouts: tuple[CallLayout, ...]
    layout: I32
    shapes: dict[int, CallShape]
    shape_sets: I32
    shape_set: I32
    mean: F32
    std: F32
    low: F32
    high: F32
    nonfinite: I32


class ModuleHistoryBuilder:
    """Collects module calls step by step.

    Args:
        stride: collect every ``stride``-th step.
    """

    def __init__(self, stride: int = 1) -> None:
        self._stride = stride
        self._seen = 0
        self._found: list[tuple[int, ModuleColumns, CallLayout]] = []
        self._layouts: dict[CallLayout, int] = {}
        self._shapes: dict[int, CallShape] = {}
        self._sets: dict[bytes, int] = {}

    def add(self, step: Step) -> None:
        """Collect a step if the stride asks for it."""
        self._seen += 1
        if (self._seen - 1) % self._stride or step.modules is None or step.layout is None:
            return
        self._found.append((step.number, step.modules, step.layout))
        self._shapes.update(step.shapes)
        self._layouts.setdefault(step.layout, len(self._layouts))
        self._sets.setdefault(step.modules.shapes.tobytes(), len(self._sets))

    def result(self) -> ModuleHistory:
        """The steps collected so far."""
        found = self._found
        sets = [np.frombuffer(key, dtype=np.int32) for key in self._sets]
        width = max((one.size for one in sets), default=0)

        def column(name: str, fill: float, dtype: type[np.generic]) -> npt.NDArray[Any]:
            whole = np.full((len(found), width), fill, dtype=dtype)
            for line, (_, modules, _) in zip(whole, found, strict=True):
                values = getattr(modules, name)
                line[: values.size] = values
            return whole

        shape_sets = np.full((len(sets), width), -1, dtype=np.int32)
        for line, one in zip(shape_sets, sets, strict=True):
            line[: one.size] = one
        return ModuleHistory(
            steps=np.array([number for number, _, _ in found], dtype=np.int32),
            stride=self._stride,
            layouts=tuple(self._layouts),
            layout=np.array([self._layouts[layout] for _, _, layout in found], dtype=np.int32),
            shapes=self._shapes,
            shape_sets=shape_sets,
            shape_set=np.array(
                [self._sets[modules.shapes.tobytes()] for _, modules, _ in found], dtype=np.int32
            ),
            mean=column("mean", np.nan, np.float32),
            std=column("std", np.nan, np.float32),
            low=column("low", np.nan, np.float32),
            high=column("high", np.nan, np.float32),
            nonfinite=column("nonfinite", -1, np.int32),
        )
