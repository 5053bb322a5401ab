"""Runs up to a step, as an analysis reads them: one that goes on, and one that is compared with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from tracer.analysis.runs import RecordedRun
from tracer.schema.columns import NO_TOKEN
from tracer.schema.run import RunEnd, RunHeader, RunStatus, TokenText
from tracer.schema.step import Step
from tracer.tracefile import TraceFile

if TYPE_CHECKING:
    from tracer.halting.live_run import LiveRun

Tensors = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class RunSoFar:
    """A run as though it ended after its last step here.

    Attributes:
        header: its header.
        steps: its steps.
        tokens: texts of its tokens.
        end: the end it would have.
        whole: the run that holds the tensors of its steps, None if nothing does.
        tensors: tensors of steps that it does not hold, by step.
    """

    header: RunHeader
    steps: Sequence[Step]
    tokens: Mapping[int, TokenText]
    end: RunEnd | None
    whole: RecordedRun | None = None
    tensors: Mapping[int, Tensors] = field(default_factory=dict)

    def tensor_names(self, step: int) -> tuple[str, ...]:
        """Names of the tensors of a step."""
        if step in self.tensors:
            return tuple(sorted(self.tensors[step]))
        return () if self.whole is None else self.whole.tensor_names(step)

    def tensor(self, step: int, name: str) -> npt.NDArray[Any]:
        """A tensor of a step."""
        if step in self.tensors:
            return self.tensors[step][name]
        assert self.whole is not None  # a name of its own was asked for
        return self.whole.tensor(step, name)


class _UpTo(Sequence[Step]):
    """The first steps of a run, each read when it is asked for, and perhaps one that is not in it yet."""

    def __init__(self, steps: Sequence[Step], count: int, last: Step | None = None) -> None:
        self._steps, self._count, self._last = steps, count, last

    def __len__(self) -> int:
        return self._count + (self._last is not None)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return self._steps[place] if place < self._count else self._last


def up_to(run: RecordedRun, count: int) -> RunSoFar:
    """The first steps of a recorded run.

    Args:
        run: the run.
        count: how many steps; fewer where it has not as many.
    """
    steps = _UpTo(run.steps, min(count, len(run.steps)))
    return RunSoFar(run.header, steps, run.tokens, run.end, run)


def alone(live: LiveRun, header: RunHeader, step: Step, logits: npt.NDArray[Any]) -> RunSoFar:
    """One step of the run in progress with its raw logits.

    Args:
        live: the run.
        header: its header, with the settings of the step.
        step: the step.
        logits: ``[batch, vocabulary]``.
    """
    return RunSoFar(header, [step], live.tokens, _end(live, step), tensors={step.number: {"logits": logits}})


@contextmanager
def run_so_far(live: LiveRun, current: Step | None) -> Iterator[RunSoFar]:
    """The run in progress: its steps that are over, from its trace, and the one that has just chosen.

    Args:
        live: the run.
        current: the step in progress.
    """
    live.flush()
    with TraceFile(live.path) as recording:
        run = recording.run(live.number)
        count = len(run.steps)
        chosen = (
            current is not None and current.scores is not None and (current.scores.chosen != NO_TOKEN).all()
        )
        last = current if chosen and current is not None and current.number == count + 1 else None
        steps = _UpTo(run.steps, count, last)
        end = _end(live, steps[-1]) if len(steps) else None
        yield RunSoFar(run.header, steps, live.tokens, end, run)


def _end(live: LiveRun, step: Step) -> RunEnd:
    """The end that an interruption behind a step would have left."""
    length = step.head.ids_before.shape[1] + 1
    rows = tuple(live.history(row, length) for row in range(step.rows))
    return RunEnd(status=RunStatus.INTERRUPTED, steps=step.number, seconds=step.head.started, sequences=rows)
