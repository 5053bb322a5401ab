"""The run in progress as a recorded run: its steps that are over, and the one in which it stands still."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tracer.schema.run import RunHeader, TokenText
from tracer.schema.step import Step
from tracer.tracefile import SavedTensor, TraceFile, TraceRun
from tracer.tracefile.reading.database import Database
from tracer.tracefile.reading.steps import StepSequence

if TYPE_CHECKING:
    from tracer.halting.live_run import LiveRun


@dataclass(frozen=True, eq=False)
class Present:
    """The step in which a run stands still, as far as it has come.

    Attributes:
        step: its record.
        saved: the tensors that it has saved by now.
    """

    step: Step
    saved: Mapping[str, SavedTensor] = field(default_factory=dict)


@contextmanager
def run_in_progress(live: LiveRun, present: Present | None) -> Iterator[TraceRun]:
    """The run in progress, as far as it has come.

    Args:
        live: the run.
        present: the step in which it stands still; where that is over, it is read from the trace.
    """
    live.flush()
    with _GrowingFile(live.path, live.tokens, present) as recording:
        yield recording.run(live.number)


class _GrowingFile(TraceFile):
    """The trace of a run in progress, with the step that is not in it yet."""

    def __init__(self, path: Path, tokens: Mapping[int, TokenText], present: Present | None) -> None:
        super().__init__(path)
        self._present = present
        # A chain is written to only through its own methods, which are not used here.
        known = cast("MutableMapping[int, TokenText]", tokens)
        self.tokens = ChainMap(known, cast("MutableMapping[int, TokenText]", self.tokens))

    def _opened(self, number: int) -> TraceRun:
        if self._present is None or self._present.step.head.run != number:
            return super()._opened(number)
        return _RunInProgress(self._database, self.tokens, self._present)


class _RunInProgress(TraceRun):
    """A run with a step that is in no file yet."""

    def __init__(self, database: Database, tokens: Mapping[int, TokenText], present: Present) -> None:
        super().__init__(database, present.step.head.run, tokens)
        self._present = present

    @cached_property
    def steps(self) -> StepSequence:
        """The steps, each read when it is accessed."""
        return _WithPresent(self._database, self.header, self._present.step)

    def tensor_names(self, step: int) -> tuple[str, ...]:
        """Names of the tensors saved in a step, sorted."""
        return tuple(sorted(self._present.saved)) if self._is_present(step) else super().tensor_names(step)

    def saved_tensor(self, step: int, name: str) -> SavedTensor:
        """A saved tensor as it was stored."""
        return self._present.saved[name] if self._is_present(step) else super().saved_tensor(step, name)

    def tensor_layout(self, step: int, name: str) -> tuple[str, tuple[int, ...]]:
        """Dtype and shape of a saved tensor."""
        if not self._is_present(step):
            return super().tensor_layout(step, name)
        saved = self._present.saved[name]
        return saved.dtype, saved.shape

    def _is_present(self, step: int) -> bool:
        return step == self._present.step.number and not super().tensor_names(step)


class _WithPresent(StepSequence):
    """The steps of a run, and the one that is in no file since it is not over.

    Args:
        database: where the others are.
        header: the run's header.
        present: that step; passed over where it is recorded, since a halt may be behind its last stop.
    """

    def __init__(self, database: Database, header: RunHeader, present: Step) -> None:
        super().__init__(database, present.head.run, header)
        self._present = present

    @property
    def numbers(self) -> Sequence[int]:
        """Numbers of the steps, rising."""
        recorded = super().numbers
        present = self._present.number
        return recorded if present in recorded else [*recorded, present]

    def number(self, number: int) -> Step:
        """A step by its number, from 1."""
        is_present = number == self._present.number and number not in super().numbers
        return self._present if is_present else super().number(number)
