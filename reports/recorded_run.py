"""What reports read of a run: a :class:`tracer.tracefile.TraceRun`, or a redacted one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy.typing as npt

from tracer.schema.run import RunEnd, RunHeader, TokenText
from tracer.schema.stamp import Stamp
from tracer.schema.step import Step


class Steps(Protocol):
    """The steps of a run in order, each read when it is reached."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Step]: ...

    @property
    def numbers(self) -> Sequence[int]:
        """Numbers of the recorded steps, rising."""

    def number(self, number: int) -> Step:
        """A step by its number, from 1."""


class Run(Protocol):
    """What a report reads of a run."""

    number: int

    @property
    def tokens(self) -> Mapping[int, TokenText]:
        """Texts of the tokens."""

    @property
    def header(self) -> RunHeader:
        """The run header, written before the first step."""

    @property
    def end(self) -> RunEnd | None:
        """The end record, None for an incomplete run."""

    @property
    def steps(self) -> Steps:
        """The steps."""

    @property
    def stamps(self) -> Sequence[Stamp]:
        """Results of verifications."""

    def tensor_names(self, step: int) -> tuple[str, ...]:
        """Names of the tensors saved in a step (by its number)."""

    def tensor(self, step: int, name: str) -> npt.NDArray[Any]:
        """A saved tensor."""

    def tensor_layout(self, step: int, name: str) -> tuple[str, tuple[int, ...]]:
        """Dtype and shape of a saved tensor."""
