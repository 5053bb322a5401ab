"""The sections of an optional capture: every step of it, or every n-th where all would be too large."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from reports.recorded_run import Run
from reports.view.text import plain
from tracer.errors import UsageError
from tracer.schema.faults import ProbedCapture
from tracer.schema.run import TokenText
from tracer.schema.step import Step


class CapturedData(ABC):
    """Collects a capture from the steps of a run, and the reasons for steps without it.

    Attributes:
        capture: its name in ``--save``; the names of its tensors begin with this and a slash.
        name: name of its section.
        run: the run.
        asked: whether this run was to record it.
        stride: every ``stride``-th step is collected; the first one collected may raise it.
        faults: why a step has no such data, by the step's number.
    """

    capture: ClassVar[ProbedCapture]

    def __init__(self, prefix: str, run: Run, _tokens: Mapping[int, TokenText]) -> None:
        self.name = f"{prefix}-{self.capture}"
        self.run = run
        self.asked = self.capture in run.header.capture.save
        self.stride = 1
        self.faults: dict[int, list[str]] = {}
        self._seen = 0
        self._reasons: list[str] = []

    def add(self, step: Step) -> None:
        """Collect a step if the stride asks for it."""
        self._seen += 1
        if not self.asked or (self._seen - 1) % self.stride:
            return
        faults = [plain(error.message) for error in step.head.errors if error.capture == self.capture]
        missed = [each.reason for each in step.head.uncaptured if each.capture == self.capture]
        self._reasons += map(plain, missed)  # said once, in the first step that lacks it
        faults += self._missing(step)
        if faults:
            self.faults[step.number] = faults

    def _missing(self, step: Step) -> list[str]:
        """Collect what a step has saved; the reasons why there is nothing to collect."""
        if not any(name.startswith(f"{self.capture}/") for name in self.run.tensor_names(step.number)):
            return self._reasons
        try:
            self.collect(step)
        except UsageError as error:
            return [plain(str(error))]
        return []

    @abstractmethod
    def collect(self, step: Step) -> None:
        """Collect what a step has saved.

        Raises:
            UsageError: its tensors do not fit together.
        """
