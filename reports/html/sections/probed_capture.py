"""Of an optional capture what a page keeps: every step's, or every n-th where all would be too much."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from reports.html.sections.collector import Run
from reports.view.text import plain
from tracer.errors import UsageError
from tracer.schema.run import TokenText
from tracer.schema.step import ProbedCapture, Step


class CapturedData(ABC):
    """Collects a capture, and the reasons where a step has none.

    Attributes:
        capture: what ``--save`` calls it; names of its tensors begin with this and a slash.
        name: of its section.
        run: the run.
        asked: whether it was asked for in this run.
        stride: of how many steps one is kept; the first that is kept may raise it.
        faults: why a step has none, by number.
    """

    capture: ClassVar[ProbedCapture]

    def __init__(self, prefix: str, run: Run, _tokens: Mapping[int, TokenText]) -> None:
        self.name = f"{prefix}-{self.capture}"
        self.run = run
        self.asked = self.capture in run.header.capture.save
        self.stride = 1
        self.faults: dict[int, list[str]] = {}
        self._seen = 0

    def add(self, step: Step) -> None:
        """Take a step."""
        self._seen += 1
        if not self.asked or (self._seen - 1) % self.stride:
            return
        faults = [plain(error.message) for error in step.head.errors if error.capture == self.capture]
        if any(name.startswith(f"{self.capture}/") for name in self.run.tensor_names(step.number)):
            try:
                self.keep(step)
            except UsageError as error:
                faults.append(plain(str(error)))
        if faults:
            self.faults[step.number] = faults

    @abstractmethod
    def keep(self, step: Step) -> None:
        """Keep what a step has.

        Raises:
            UsageError: what is saved does not fit together.
        """
