"""The logit lens of a run: one section, every step in it or every n-th."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from math import ceil

import numpy as np

from reports.html.pack import Section
from reports.html.runs import Run
from reports.view.findings import faults_of
from reports.view.text import plain
from tracer.analysis.lens import NAMES, LensTensors, lens_tensors
from tracer.errors import UsageError
from tracer.schema.run import TokenText
from tracer.schema.step import Step

LENS_BUDGET = 1 << 16
"""Predictions of layers that a page keeps of a run; beyond it, those of every n-th step."""


class LensData:
    """What each layer would have predicted, exactly as it was recorded."""

    def __init__(self, name: str, run: Run, tokens: Mapping[int, TokenText]) -> None:
        self._name = f"{name}-lens"
        self._run = run
        self._asked = "lens" in run.header.capture.save
        self._seen = 0
        self._stride = 1
        self._kept: dict[int, LensTensors] = {}
        self._faults: dict[int, list[str]] = {}

    def add(self, step: Step) -> None:
        """Take a step."""
        self._seen += 1
        if not self._asked or (self._seen - 1) % self._stride:
            return
        faults = [plain(message) for message in faults_of(step, "lens")]
        if NAMES[0] in self._run.tensor_names(step.number):
            try:
                self._keep(step.number, lens_tensors(self._run, step.number, step.rows))
            except UsageError as error:
                faults.append(plain(str(error)))
        if faults:
            self._faults[step.number] = faults

    def sections(self) -> Iterator[Section]:
        """One section; none where no lens was asked for."""
        if not self._asked:
            return
        arrays = {"steps": np.array(list(self._kept), dtype=np.int32)}
        if self._kept:
            arrays |= {
                field.name: np.stack([getattr(found, field.name) for found in self._kept.values()])
                for field in fields(LensTensors)
            }
        yield Section(self._name, {"stride": self._stride, "faults": self._faults}, arrays)

    def _keep(self, number: int, found: LensTensors) -> None:
        if not self._kept:
            self._stride = max(1, ceil(len(self._run.steps) * found.rank.size / LENS_BUDGET))
        elif found.tokens.shape != next(iter(self._kept.values())).tokens.shape:
            raise UsageError(f"the lens of step {number} has other layers than the first")
        self._kept[number] = found
