"""A recorded run as the analyses read it, from an open trace or from memory."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tracer.errors import UnfitTensorsError, UsageError
from tracer.library.release import assumed_release
from tracer.schema.arrays import F32, I64
from tracer.schema.columns import ScoreColumns
from tracer.schema.faults import ProbedCapture
from tracer.schema.lineage import lineage
from tracer.schema.run import LoopName, RunEnd, RunHeader, TokenText
from tracer.schema.step import Step, StepHead, uncaptured_reason

LOGITS = "logits"
"""Name of the saved raw logits of a step, ``[batch, vocabulary]``."""


class SavedTensors(Protocol):
    """The saved tensors of a run's steps."""

    def tensor_names(self, step: int) -> tuple[str, ...]:
        """Names of the tensors saved in a step (by its number)."""

    def tensor(self, step: int, name: str) -> npt.NDArray[Any]:
        """A saved tensor of a step (by its number), by name."""


class RecordedRun(SavedTensors, Protocol):
    """What an analysis reads from a run; :class:`tracer.tracefile.TraceRun` is one."""

    @property
    def header(self) -> RunHeader:
        """The header, known before the first step."""

    @property
    def end(self) -> RunEnd | None:
        """The end record; None if the run is incomplete."""

    @property
    def steps(self) -> Sequence[Step]:
        """Recorded steps in order, by index from 0."""

    @property
    def tokens(self) -> Mapping[int, TokenText]:
        """Texts of token ids."""


def step_of(run: RecordedRun, number: int) -> Step:
    """A step by its number.

    Args:
        run: the run.
        number: number of the step, from 1.

    Raises:
        UsageError: it was not recorded.
    """
    steps = run.steps
    if 1 <= number <= len(steps) and steps[number - 1].number == number:
        return steps[number - 1]
    found = next((step for step in steps if step.number == number), None)
    if found is None:
        last = steps[-1].number if len(steps) else 0
        raise UsageError(f"step {number} was not recorded; the last recorded step is {last}")
    return found


def whole_scores(header: RunHeader, step: Step) -> ScoreColumns:
    """The scores of a step from the raw logits to the last processor.

    Raises:
        UsageError: they were not recorded, or the run failed before the last processor had run.
    """
    scores = step.scores
    if scores is None:
        raise UsageError(
            f"the scores of step {step.number} were not recorded, so nothing can be said about them"
        )
    if step.head.failure is not None and len(scores.scores) <= len(header.processors):
        raise UsageError(
            f"the run failed in step {step.number} at {step.head.failure.stop}, before its choice"
        )
    return scores


def require_captured(run: RecordedRun, capture: ProbedCapture, number: int) -> None:
    """Refuse to look for a capture in a step of which the run says why it is not there.

    Args:
        run: the run.
        capture: which.
        number: number of the step, from 1.

    Raises:
        UsageError: with that reason.
    """
    if any(name.startswith(f"{capture}/") for name in run.tensor_names(number)):
        return
    reason = uncaptured_reason(capture, (step for step in run.steps if step.number <= number))
    if reason is not None:
        raise UsageError(f"the {capture} of step {number} could not be recorded: {reason}")


def check_row(header: RunHeader, row: int) -> None:
    """Check that the batch has a row.

    Raises:
        UsageError: it has not; the message names the rows there are.
    """
    rows = len(header.prompt)
    if not 0 <= row < rows:
        raise UsageError(f"row {row} does not exist; the batch has rows 0 to {rows - 1}")


def history_of(run: RecordedRun, number: int, row: int) -> I64:
    """The row's ``input_ids`` before a step, padding included, as processors get them.

    Args:
        run: the run.
        number: number of the step.
        row: row of the batch.

    Raises:
        UsageError: a step before it was not recorded, so that its token is unknown.
    """
    if run.header.rows_move:
        return _history_of_beam(run, number, row)
    prompt = run.header.prompt[row].token_ids
    length = len(prompt) + number - 1
    if run.header.loop == "_assisted_decoding":
        length = step_of(run, number).head.ids_before.shape[1]
    if run.end is not None and len(run.end.sequences) > row and len(run.end.sequences[row]) >= length:
        return np.array(run.end.sequences[row][:length], dtype=np.int64)
    found = [step_of(run, before).appended(row) for before in range(1, number)]
    if () in found:
        raise UsageError(f"the token of row {row} in step {found.index(()) + 1} was not recorded")
    return np.array([*prompt, *itertools.chain.from_iterable(found)], dtype=np.int64)


def _history_of_beam(run: RecordedRun, number: int, row: int) -> I64:
    """The same of a run whose rows move from step to step."""
    steps = [step_of(run, before) for before in range(1, number)]
    rows = lineage([step.parents for step in steps], row)
    tokens = [chosen_token(step, at) for step, at in zip(steps, rows[1:], strict=True)]
    if None in tokens:
        raise UsageError(f"the token of row {row} in step {tokens.index(None) + 1} was not recorded")
    prompt = run.header.prompt[rows[0]].token_ids
    return np.array([*prompt, *(token for token in tokens if token is not None)], dtype=np.int64)


def require_choice_by_row(header: RunHeader, what: str) -> None:
    """Refuse a question about choices that each row makes by itself, for a run in which none does.

    Args:
        header: the run's header.
        what: what is asked for, as the beginning of a sentence.

    Raises:
        UsageError: the run is a beam search, a contrastive search, or assisted.
    """
    reason = _OTHERWISE.get(header.loop)
    if reason is not None:
        raise UsageError(f"{what} is not there for {reason}.")


_OF_BEAMS = "which token goes on depends on all beams of a row"

_OTHERWISE: Mapping[LoopName, str] = {
    "_beam_search": f"beam search: {_OF_BEAMS}",
    "_group_beam_search": f"group beam search: {_OF_BEAMS}",
    "_constrained_beam_search": f"constrained beam search: {_OF_BEAMS}",
    "_assisted_decoding": "assisted decoding: a step chooses several tokens",
    "_contrastive_search": "contrastive search: a step ranks its candidates by their hidden states, too",
}
"""Loops that do not choose a token of each row by itself, and how."""


def leading_positions(run: RecordedRun) -> int:
    """Positions of each row before its first token id (see :class:`~tracer.schema.step.ModelInputs`)."""
    return run.steps[0].head.inputs.leading if len(run.steps) else 0


def chosen_token(step: Step, row: int) -> int | None:
    """The token appended to a row; None if it was not recorded."""
    choice = step.choice(row)
    return None if choice is None else choice.token


def saved_logits(run: RecordedRun, number: int) -> F32 | None:
    """The scores ``[batch, vocabulary]`` that a step's processors began with; None if they were not saved.

    As float32, and by the rows of the step's scores; tokens that a processor has added are at -inf.

    Args:
        run: the run.
        number: number of the step.

    Raises:
        UnfitTensorsError: the saved tensor has another shape or dtype.
    """
    if LOGITS not in run.tensor_names(number):
        return None
    logits = np.asarray(run.tensor(number, LOGITS))
    head = step_of(run, number).head
    rows, vocabulary = len(run.header.prompt), head.vocab_size
    if head.forward is not None:
        vocabulary = min(vocabulary, head.forward.next_logits.shape[-1])
    if logits.dtype.kind != "f" or logits.shape != (rows, vocabulary):
        raise UnfitTensorsError(
            f"the saved logits of step {number} have shape {list(logits.shape)}, not {[rows, vocabulary]}"
        )
    parents = step_of(run, number).parents
    found: F32 = (logits[[*parents]] if parents else logits).astype(np.float32, copy=False)
    return np.pad(found, ((0, 0), (0, head.vocab_size - vocabulary)), constant_values=-np.inf)


def scores_dtype(header: RunHeader, head: StepHead) -> str:
    """The dtype in which processors and the draw worked.

    Args:
        header: the run's header.
        head: what is known of the step.
    """
    if head.forward is None or assumed_release(header.versions.get("transformers", "")).float32_scores:
        return "float32"
    return head.forward.next_logits.dtype


def scores_device(head: StepHead) -> str:
    """The device on which processors and the draw worked."""
    return "cpu" if head.forward is None else head.forward.next_logits.device
