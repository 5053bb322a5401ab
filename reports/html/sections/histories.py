"""Sections with one figure for each step, module call or cache slot, for the charts and heat maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from math import ceil

from reports.html.pack import Section, rounded
from reports.html.sections.cards import tensor_text
from reports.recorded_run import Run
from reports.view.run.cache_history import CacheHistoryBuilder
from reports.view.run.module_history import ModuleHistoryBuilder
from reports.view.run.overview import OverviewBuilder
from tracer.schema.run import TokenText
from tracer.schema.step import Step

CALLS_BUDGET = 1 << 18
"""At most this many module calls of a run are in a page; beyond it, those of every n-th step."""

NORMS_BUDGET = 1 << 20
"""At most this many norms of keys and values of a run are in a page; beyond it, those of every n-th slot."""


class OverviewData:
    """Figures of each step."""

    def __init__(self, name: str, run: Run, tokens: Mapping[int, TokenText]) -> None:
        self._name = f"{name}-overview"
        self._builder = OverviewBuilder(len(run.header.prompt))

    def add(self, step: Step) -> None:
        """Collect a step."""
        self._builder.add(step)

    def sections(self) -> Iterator[Section]:
        """One section."""
        overview = self._builder.result()
        yield Section(
            self._name, None, {field.name: getattr(overview, field.name) for field in fields(overview)}
        )


class ModuleData:
    """Shapes and statistics of the module calls."""

    def __init__(self, name: str, run: Run, tokens: Mapping[int, TokenText]) -> None:
        self._name = f"{name}-modules"
        stride = max(1, ceil(len(run.steps) * len(run.header.modules) / CALLS_BUDGET))
        self._builder = ModuleHistoryBuilder(stride)

    def add(self, step: Step) -> None:
        """Collect a step."""
        self._builder.add(step)

    def sections(self) -> Iterator[Section]:
        """One section; none where no module call was recorded."""
        history = self._builder.result()
        if not history.steps.size:
            return
        metadata = {
            "stride": history.stride,
            "layouts": [[list(layout.modules), list(layout.not_called)] for layout in history.layouts],
            "shapes": {
                number: [[tensor_text(info) for info in side] for side in (shape.inputs, shape.outputs)]
                for number, shape in history.shapes.items()
            },
        }
        arrays = {
            name: getattr(history, name)
            for name in ("steps", "layout", "shape_sets", "shape_set", "nonfinite")
        }
        arrays |= {name: rounded(getattr(history, name)) for name in ("mean", "std", "low", "high")}
        yield Section(self._name, metadata, arrays)


class CacheData:
    """Norms of keys and values."""

    def __init__(self, name: str, run: Run, tokens: Mapping[int, TokenText]) -> None:
        self._name = f"{name}-cache"
        model, prompt = run.header.model, run.header.prompt
        heads = model.kv_heads or model.query_heads or 1
        slots = len(prompt[0].token_ids) + len(run.steps)
        norms = slots * 2 * (model.layers or 1) * heads * len(prompt)
        self._builder = CacheHistoryBuilder(max(1, ceil(norms / NORMS_BUDGET)))

    def add(self, step: Step) -> None:
        """Collect a step."""
        self._builder.add(step)

    def sections(self) -> Iterator[Section]:
        """One section; none where no norms were recorded."""
        history = self._builder.result()
        if history is None:
            return
        yield Section(
            self._name,
            {"stride": history.stride},
            {"slots": history.slots, "key": rounded(history.key), "value": rounded(history.value)},
        )
