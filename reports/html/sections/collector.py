"""The protocol of what collects the sections of a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from reports.html.pack import Section
from tracer.schema.step import Step


class Collector(Protocol):
    """Makes sections of the steps of a run, which it is given one by one."""

    def add(self, step: Step) -> None:
        """Collect a step; steps come in order."""

    def sections(self) -> Iterator[Section]:
        """The sections; called once, after the last step."""
