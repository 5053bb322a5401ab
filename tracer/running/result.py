"""The outcome of a traced generation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tracer.analysis.conditions.condition import Hit
from tracer.errors import CheckFailedError, IncompleteTraceError, TraceGenerateError
from tracer.forking.forking import Forked
from tracer.messages import shown


@dataclass(frozen=True)
class GenerationResult:
    """The outcome of a traced generation.

    Attributes:
        path: the trace file.
        texts: generated text per row.
        token_ids: generated ids per row, without the prompt.
        seed: the seed in force.
        notes: what the user should know about the prompt.
        failure: why the trace is incomplete, None while all is well.
        faults: what could not be recorded.
        violated: whether a check did not hold.
        hits: where conditions held.
        forks: the forks for which a user at a halt has left the run, and one another; ``texts`` and
            ``token_ids`` are those of the last.
    """

    path: Path
    texts: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]
    seed: int
    notes: tuple[str, ...]
    failure: TraceGenerateError | None
    faults: tuple[str, ...]
    violated: bool
    hits: tuple[Hit, ...]
    forks: tuple[Forked, ...] = ()

    def raise_if_incomplete(self) -> None:
        """Raise what is wrong with the recording.

        Raises:
            IncompleteTraceError: the trace does not hold all of the run.
            CheckFailedError: a check did not hold.
        """
        if self.failure is not None:
            raise IncompleteTraceError(str(self.failure))
        if self.faults:
            more = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
            raise IncompleteTraceError(f"Something could not be recorded: {self.faults[0]}{more}")
        if self.violated:
            raise CheckFailedError(f"A check did not hold; {shown(self.path)} says where.")
