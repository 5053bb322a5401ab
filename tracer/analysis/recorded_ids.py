"""What a run was given and came to: the ids that a repetition starts from and has to arrive at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracer.analysis.runs import RecordedRun, chosen_token
from tracer.errors import UsageError
from tracer.schema.run import RunHeader
from tracer.schema.step import StepHead

Ids = npt.NDArray[np.int64]

LOOKUP = "PromptLookupCandidateGenerator"
"""The class that proposes tokens by the settings and the text alone."""


@dataclass(frozen=True, eq=False)
class RecordedIds:
    """The ids of a run.

    Attributes:
        prompt: ``[batch, prompt length]`` what ``generate()`` was given.
        mask: the same shape: the attention mask.
        expected: ``[sequences, length]`` what it returned, or had come to.
        length: length of the longest sequence that the loop had, prompt included.
        steps: for each column of ``expected`` behind the prompt, the step that appended it; None of a beam
            search, which returns sequences put together in the end.
    """

    prompt: Ids
    mask: Ids
    expected: Ids
    length: int
    steps: Sequence[int] | None


def recorded_ids(run: RecordedRun, heads: Sequence[StepHead], steps: int) -> RecordedIds:
    """The ids of a run's first steps.

    Args:
        run: the run.
        heads: of all its steps.
        steps: how many of them.

    Raises:
        UsageError: the run cannot be repeated, with the reason.
    """
    prompt = np.array([row.token_ids for row in run.header.prompt], dtype=np.int64)
    if not prompt.size:
        raise impossible("its prompt was not given as token ids")
    mask = _mask(run.header, heads[0])
    if run.header.rows_move:
        return _of_beams(run, prompt, mask, steps)
    return (_of_proposals if run.header.proposes else _of_rows)(run, prompt, mask, steps)


def impossible(reason: str) -> UsageError:
    """The error for a run that cannot be repeated.

    Args:
        reason: why, as a clause.
    """
    return UsageError(f"This run cannot be repeated: {reason}.")


def _of_rows(run: RecordedRun, prompt: Ids, mask: Ids, steps: int) -> RecordedIds:
    """Of a loop that appends a token to each row in each step."""
    columns = []
    for step in run.steps[:steps]:
        tokens = [chosen_token(step, row) for row in range(len(prompt))]
        if None in tokens:
            raise impossible(f"the choice of step {step.number} was not recorded")
        columns.append(tokens)
    chosen = np.array(columns, dtype=np.int64).reshape(-1, len(prompt)).T
    expected = np.concatenate([prompt, chosen], axis=1)
    return RecordedIds(prompt, mask, expected, expected.shape[1], range(1, steps + 1))


def _of_proposals(run: RecordedRun, prompt: Ids, mask: Ids, steps: int) -> RecordedIds:
    """Of assisted decoding, whose steps append one token or more to its only row."""
    known = [(step.number, step.head.assisted) for step in run.steps[:steps]]
    appended: list[tuple[int, int]] = []
    for number, assisted in known:
        if assisted is None:
            raise impossible(f"the choice of step {number} was not recorded")
        if assisted.proposer != LOOKUP:
            raise impossible(
                f"its tokens were proposed by a model or an object ({assisted.proposer}), which a trace does "
                "not keep"
            )
        appended += ((number, token) for token in assisted.appended)
    tokens = np.array([[token for _, token in appended]], dtype=np.int64)
    expected = np.concatenate([prompt, tokens], axis=1)
    return RecordedIds(prompt, mask, expected, expected.shape[1], [number for number, _ in appended])


def _of_beams(run: RecordedRun, prompt: Ids, mask: Ids, steps: int) -> RecordedIds:
    """Of a beam search, whose loop has the rows of the batch once for each beam."""
    end = run.end
    if end is None or end.beams is None:
        raise impossible("the search did not come to its end")
    if "constraints" in run.header.generation_config:
        raise impossible("its constraints are objects, which a trace does not keep")
    beams = end.beams.beams
    expected = np.array(end.sequences, dtype=np.int64)
    return RecordedIds(prompt[::beams], mask[::beams], expected, prompt.shape[1] + steps, None)


def _mask(header: RunHeader, head: StepHead) -> Ids:
    """The attention mask over the prompt: as the model got it, else derived from the padding."""
    shape = (len(header.prompt), len(header.prompt[0].token_ids))
    recorded = head.first_inputs.tensor("attention_mask")
    values = None if recorded is None or recorded.info.shape != shape else recorded.values
    if values is not None and not values.omitted:
        return values.decode().reshape(shape)
    mask = np.ones(shape, dtype=np.int64)
    for row, prompt in enumerate(header.prompt):
        mask[row, : prompt.padding] = 0
    return mask
