"""The logit lens of a run: one section with every step, or every n-th."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from math import ceil

import numpy as np

from reports.html.pack import Section
from reports.html.sections.probed_capture import CapturedData
from reports.recorded_run import Run
from tracer.analysis.lens import LensTensors, lens_tensors
from tracer.errors import UsageError
from tracer.schema.run import TokenText
from tracer.schema.step import Step

LENS_BUDGET = 1 << 16
"""At most this many predictions of layers of a run are in a page; beyond it, those of every n-th step."""


class LensData(CapturedData):
    """What each layer would have predicted, exactly as it was recorded."""

    capture = "lens"

    def __init__(self, prefix: str, run: Run, tokens: Mapping[int, TokenText]) -> None:
        super().__init__(prefix, run, tokens)
        self._collected: dict[int, LensTensors] = {}

    def sections(self) -> Iterator[Section]:
        """One section; none where no lens was asked for."""
        if not self.asked:
            return
        arrays = {"steps": np.array(list(self._collected), dtype=np.int32)}
        if self._collected:
            arrays |= {
                field.name: np.stack([getattr(found, field.name) for found in self._collected.values()])
                for field in fields(LensTensors)
            }
        yield Section(self.name, {"stride": self.stride, "faults": self.faults}, arrays)

    def collect(self, step: Step) -> None:
        """Collect the lens of a step."""
        found = lens_tensors(self.run, step.number, step.rows)
        if not self._collected:
            self.stride = max(1, ceil(len(self.run.steps) * found.rank.size / LENS_BUDGET))
        elif found.tokens.shape != next(iter(self._collected.values())).tokens.shape:
            raise UsageError(f"the lens of step {step.number} has other layers than the first")
        self._collected[step.number] = found
