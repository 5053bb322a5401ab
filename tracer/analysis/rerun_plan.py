"""What it takes to repeat a recorded run without tracing, read from the recording alone."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.analysis.runs import RecordedRun, chosen_token
from tracer.errors import UsageError
from tracer.schema.run import ModelInfo, RunHeader, RunStatus
from tracer.schema.step import StepHead

_UNDERSTOOD = {"input_ids", "attention_mask", "position_ids", "cache_position"}

_DERIVED = {"max_length": "max_new_tokens", "min_length": "min_new_tokens"}
"""Settings that ``generate()`` computes, and those that it computes them from."""


@dataclass(frozen=True, eq=False)
class RerunPlan:
    """How to repeat a run.

    Attributes:
        model: the model as it was recorded.
        settings: generation settings by name, as values.
        input_ids: ``[batch, prompt length]``.
        attention_mask: the same shape.
        seed: seed to set; None to set ``state``, or nothing for a greedy run.
        state: whole random state before the first draw, None where it was not recorded.
        state_device: device of that state's generator.
        state_digest: BLAKE2b-64 of the state before the first draw; None for a greedy run.
        steps: how many steps to run.
        cut_short: the run ended before its own criteria ended it, so that the repetition needs a limit.
        expected: ``[batch, prompt length + steps]`` the recorded ids.
        logits_at: step by the number of its forward pass, for the steps whose raw logits were saved; a
            processor may make passes of its own.
    """

    model: ModelInfo
    settings: Mapping[str, Any]
    input_ids: npt.NDArray[np.int64]
    attention_mask: npt.NDArray[np.int64]
    seed: int | None
    state: bytes | None
    state_device: str
    state_digest: str | None
    steps: int
    cut_short: bool
    expected: npt.NDArray[np.int64]
    logits_at: Mapping[int, int]


def plan_rerun(run: RecordedRun) -> RerunPlan:
    """Say how a run can be repeated.

    Args:
        run: the run.

    Raises:
        UsageError: it cannot be, with the reason.
    """
    header = run.header
    heads = [step.head for step in run.steps]
    if not heads:
        raise _impossible("it has no step")
    if [head.step for head in heads] != list(range(1, len(heads) + 1)):
        raise _impossible("steps are missing from the trace")
    _refuse_foreign(heads)
    prompt = np.array([row.token_ids for row in header.prompt], dtype=np.int64)
    if not prompt.size:
        raise _impossible("its prompt was not given as token ids")
    draw = heads[0].draw
    state = bytes.fromhex(draw.state) if draw is not None and draw.state is not None else None
    # The seed was set once for the file; a later run goes on from where the one before it stopped.
    seed = header.seed if heads[0].run == 1 else None
    if header.do_sample and seed is None and state is None:
        raise _impossible("its tokens were drawn, and neither a seed nor the random state is in the trace")
    return RerunPlan(
        model=header.model,
        settings=settings_of(header),
        input_ids=prompt,
        attention_mask=_mask(header, heads[0]),
        seed=seed if header.do_sample else None,
        state=state,
        state_device=draw.device if draw is not None else "cpu",
        state_digest=draw.digest if draw is not None else None,
        steps=len(heads),
        cut_short=run.end is None or run.end.status is not RunStatus.COMPLETE or run.end.ended_by is not None,
        expected=np.concatenate([prompt, _chosen(run)], axis=1),
        logits_at=_forwards_with_logits(run, heads),
    )


def settings_of(header: RunHeader) -> dict[str, Any]:
    """The generation settings of a run as values; the header keeps them as text."""
    texts = header.generation_config
    derived = {name for name, source in _DERIVED.items() if source in texts}
    # The rows of the prompt are already as many as there were sequences.
    left_out = derived | {"num_return_sequences"}
    return {name: _value(text) for name, text in texts.items() if name not in left_out}


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _refuse_foreign(heads: list[StepHead]) -> None:
    """Refuse what no settings can bring about again."""
    changed = next((head for head in heads if head.interventions), None)
    if changed is not None:
        raise _impossible(f"the user changed something in step {changed.step}")
    first = heads[0].inputs
    foreign = sorted({tensor.name for tensor in first.tensors} - _UNDERSTOOD)
    if foreign:
        raise _impossible(f"the model was given {', '.join(foreign)}, which a trace does not keep")
    if first.new_start:
        raise _impossible("it began with a filled KV cache, which a trace does not keep")


def _forwards_with_logits(run: RecordedRun, heads: list[StepHead]) -> dict[int, int]:
    before = itertools.accumulate((1 + head.extra_forwards for head in heads), initial=1)
    return {
        forward: head.step
        for forward, head in zip(before, heads, strict=False)
        if "logits" in run.tensor_names(head.step)
    }


def _mask(header: RunHeader, head: StepHead) -> npt.NDArray[np.int64]:
    """The attention mask over the prompt: as it went in, or from the padding."""
    shape = (len(header.prompt), len(header.prompt[0].token_ids))
    recorded = head.inputs.tensor("attention_mask")
    if recorded is not None and recorded.values is not None and recorded.info.shape == shape:
        return recorded.values.decode().reshape(shape)
    mask = np.ones(shape, dtype=np.int64)
    for row, prompt in enumerate(header.prompt):
        mask[row, : prompt.padding] = 0
    return mask


def _chosen(run: RecordedRun) -> npt.NDArray[np.int64]:
    """``[batch, steps]`` ids of the chosen tokens."""
    rows, columns = len(run.header.prompt), []
    for step in run.steps:
        tokens = [chosen_token(step, row) for row in range(rows)]
        if None in tokens:
            raise _impossible(f"the choice of step {step.number} was not recorded")
        columns.append(tokens)
    return np.array(columns, dtype=np.int64).T


def _impossible(reason: str) -> UsageError:
    return UsageError(f"This run cannot be repeated: {reason}.")
