"""A run as redacted reports show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy.typing as npt

from reports.recorded_run import Run, Steps
from reports.redaction.aliases import Aliases
from reports.redaction.records import Redactor
from tracer.schema.columns import ScoreColumns
from tracer.schema.run import RunEnd, RunHeader, TokenText
from tracer.schema.stamp import Stamp
from tracer.schema.step import Step

_SHOWN_TENSORS = ("lens", "attention")


class RedactedRun:
    """A run without texts, token ids and absolute paths; all figures stay.

    Args:
        run: the run.
        aliases: what stands for each token; shared by the runs of a report.
    """

    def __init__(self, run: Run, aliases: Aliases) -> None:
        self.number = run.number
        self._run = run
        self._aliases = aliases
        self._redactor = Redactor(aliases)

    @cached_property
    def header(self) -> RunHeader:
        """The header without texts."""
        return self._redactor.record(self._run.header)

    @property
    def tokens(self) -> Mapping[int, TokenText]:
        """The tokens that have been numbered so far, without their texts."""
        return self._aliases.texts(self._run.tokens)

    @property
    def end(self) -> RunEnd | None:
        """The end record without texts."""
        end = self._run.end
        return None if end is None else self._redactor.record(end)

    @property
    def steps(self) -> RedactedSteps:
        """The steps without texts."""
        return RedactedSteps(self._run.steps, self._aliases)

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """Verifications without what they say."""
        return tuple(map(self._redactor.record, self._run.stamps))

    def tensor_names(self, step: int) -> tuple[str, ...]:
        """Saved tensors that can be shown: those of lens and attention; others are indexed by token id."""
        return tuple(
            name for name in self._run.tensor_names(step) if name.partition("/")[0] in _SHOWN_TENSORS
        )

    def tensor(self, step: int, name: str) -> npt.NDArray[Any]:
        """One of them, without token ids."""
        found = self._run.tensor(step, name)
        return self._aliases.of(found) if name == "lens/tokens" else found

    def tensor_layout(self, step: int, name: str) -> tuple[str, tuple[int, ...]]:
        """Dtype and shape of one of them."""
        return self._run.tensor_layout(step, name)


class RedactedSteps:
    """Steps of a redacted run, each made when it is asked for."""

    def __init__(self, steps: Steps, aliases: Aliases) -> None:
        self._steps = steps
        self._aliases = aliases
        self._redactor = Redactor(aliases)

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Step]:
        return map(self._redacted, self._steps)

    @property
    def numbers(self) -> Sequence[int]:
        """Numbers of the recorded steps."""
        return self._steps.numbers

    def number(self, number: int) -> Step:
        """A step by its number."""
        return self._redacted(self._steps.number(number))

    def _redacted(self, step: Step) -> Step:
        return replace(
            step,
            head=self._redactor.record(step.head),
            scores=None if step.scores is None else self._scores(step.scores),
            shapes={number: self._redactor.record(shape) for number, shape in step.shapes.items()},
        )

    def _scores(self, scores: ScoreColumns) -> ScoreColumns:
        return replace(
            scores,
            tokens=self._aliases.of_columns(scores.tokens),
            chosen=self._aliases.of_columns(scores.chosen),
            removed_tokens=self._aliases.of_columns(scores.removed_tokens),
        )


def redacted_runs(runs: Sequence[Run]) -> tuple[RedactedRun, ...]:
    """Runs for one report, in which a token has the same number everywhere.

    Args:
        runs: the runs.
    """
    aliases = Aliases()
    return tuple(RedactedRun(run, aliases) for run in runs)
