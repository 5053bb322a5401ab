"""What a generation passes to the recorder, and the interface of its listeners."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tracer.schema.run import RunEnd, RunHeader, TokenText
from tracer.schema.step import Step
from tracer.tracefile.encoding.saved_tensor import SavedTensor


@dataclass(frozen=True)
class StepWrite:
    """Everything that is written for a step.

    Attributes:
        step: the step.
        new_tokens: texts of tokens that the trace may not have yet.
        tensors: tensors to save, by name.
    """

    step: Step
    new_tokens: Sequence[TokenText] = ()
    tensors: Mapping[str, SavedTensor] = field(default_factory=dict)


@dataclass(frozen=True)
class EndWrite:
    """Everything that is written at the end of a run.

    Attributes:
        end: the end record.
        new_tokens: texts of tokens that the trace may not have yet.
    """

    end: RunEnd
    new_tokens: Sequence[TokenText] = ()


class Job(Protocol):
    """What a generation passes on for one step."""

    @property
    def nbytes(self) -> int:
        """Memory that the job holds, in bytes."""

    def build(self) -> StepWrite:
        """Build the records; called once, on the writer's thread."""


class Listener(Protocol):
    """Follows a run; called on the writer's thread, after each commit."""

    def on_run(self, number: int, header: RunHeader, tokens: Mapping[int, TokenText]) -> None:
        """A run has begun; ``tokens`` are the texts known so far, those of the prompt among them."""

    def on_step(self, step: Step, tokens: Mapping[int, TokenText]) -> None:
        """A step has been recorded; ``tokens`` are all texts known so far."""

    def on_end(self, end: RunEnd) -> None:
        """The run has ended."""


BuildErrorHook = Callable[[Job, Exception], "StepWrite | None"]
"""Builds a replacement for a step that could not be built or written; None drops the step."""
