"""Plan how to repeat a recorded run without tracing, from the recording alone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tracer.analysis.recorded_ids import RecordedIds, impossible, recorded_ids
from tracer.analysis.runs import LOGITS, RecordedRun
from tracer.schema.run import ModelInfo, RunEnd, RunHeader, RunStatus
from tracer.schema.setting_text import parse_config_value
from tracer.schema.step import StepHead

_REPEATABLE_INPUTS = {"input_ids", "attention_mask", "position_ids", "cache_position"}

_DERIVED = {"max_length": "max_new_tokens", "min_length": "min_new_tokens"}
"""Settings that ``generate()`` computes, by the settings that it computes them from."""


@dataclass(frozen=True, eq=False)
class RerunPlan:
    """How to repeat a run.

    Attributes:
        model: the model as it was recorded.
        settings: generation settings by name, as values.
        ids: what it is given and has to come to.
        seed: seed to set; None to set ``state``, or neither for a greedy run.
        state: whole RNG state before the first draw, None where it was not recorded.
        state_device: device of that state's generator.
        state_digest: BLAKE2b-64 of the RNG state before the first draw; None for a greedy run, and where
            it was not recorded.
        steps: number of steps to run.
        cut_short: the run ended before its own criteria ended it, so that the repetition needs a limit.
        logits_at: step by the number of its last forward pass, for the steps whose raw logits were saved; the
            two differ where a step has several, or a processor ran some of its own. Empty where what was
            saved are other scores that the loop makes of them; of a beam search it is their
            log-probabilities.
        passes: how many forward passes a step has, each of a part of its rows.
    """

    model: ModelInfo
    settings: Mapping[str, Any]
    ids: RecordedIds
    seed: int | None
    state: bytes | None
    state_device: str
    state_digest: str | None
    steps: int
    cut_short: bool
    logits_at: Mapping[int, int]
    passes: int


def plan_rerun(run: RecordedRun) -> RerunPlan:
    """Plan the repetition of a run.

    Args:
        run: the run.

    Raises:
        UsageError: it cannot be repeated, with the reason.
    """
    heads = _consecutive_heads(run)
    changed = next((head for head in heads if head.interventions), None)
    if changed is not None:
        raise impossible(f"the user changed something in step {changed.step}")
    if run.header.fork is not None:
        raise impossible(f"the tokens before step {run.header.fork.step} were given to it")
    return _plan(run, heads, len(heads))


def plan_prefix(run: RecordedRun, steps: int) -> RerunPlan:
    """Plan the repetition of the first steps of a run, whose tokens are given.

    Args:
        run: the run.
        steps: how many; none for the prompt alone.

    Raises:
        UsageError: they cannot be repeated, with the reason.
    """
    heads = _consecutive_heads(run)
    for head in heads[:steps]:
        setting = next((each for each in head.interventions if each.kind == "set"), None)
        if setting is not None:
            raise impossible(f"the user set {setting.detail} in step {head.step}")
        if any(each.kind == "ids" for each in head.interventions):
            raise impossible(f"a processor wrote into the ids in step {head.step}")
    return _plan(run, heads, steps)


def _plan(run: RecordedRun, heads: list[StepHead], steps: int) -> RerunPlan:
    header = run.header
    _refuse_foreign_inputs(heads[0])
    ids = recorded_ids(run, heads, steps)
    rng = _rng_start(header, heads[0])
    return RerunPlan(
        model=header.model,
        settings=generation_settings(header),
        ids=ids,
        seed=rng.seed,
        state=rng.state,
        state_device=rng.device,
        state_digest=rng.digest,
        steps=steps,
        cut_short=_was_cut_short(run.end),
        logits_at=_forwards_with_logits(run, heads),
        passes=heads[0].passes,
    )


def generation_settings(header: RunHeader) -> dict[str, Any]:
    """The generation settings of a run as values; the header stores them as text."""
    texts = header.generation_config
    derived = {name for name, source in _DERIVED.items() if source in texts}
    # The prompt has one row per returned sequence already; of a beam search, one per beam, which is undone.
    skipped = derived if header.rows_move else derived | {"num_return_sequences"}
    return {name: parse_config_value(text) for name, text in texts.items() if name not in skipped}


def logits_follow(header: RunHeader) -> bool:
    """Whether what a run saves as logits follows from what a forward pass returns, and from nothing else.

    Args:
        header: the run's header; a beam search saves their log-probabilities.
    """
    return header.loop == "_sample" or header.rows_move


def unset_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a run was to do without: arguments, as newer releases fill in what a config lacks.

    Args:
        settings: generation settings by name.
    """
    return {name: value for name, value in settings.items() if value is None}


def _consecutive_heads(run: RecordedRun) -> list[StepHead]:
    heads = [step.head for step in run.steps]
    if not heads:
        raise impossible("it has no step")
    if [head.step for head in heads] != list(range(1, len(heads) + 1)):
        raise impossible("steps are missing from the trace")
    return heads


class _RngStart(NamedTuple):
    """What brings the generator into its state before the first draw (see :class:`RerunPlan`)."""

    seed: int | None
    state: bytes | None
    device: str
    digest: str | None


def _rng_start(header: RunHeader, first: StepHead) -> _RngStart:
    draw = first.draw
    state = bytes.fromhex(draw.state) if draw is not None and draw.state is not None else None
    # The seed was set once for the file; a later run continues from where the one before it stopped.
    seed = header.seed if header.do_sample and first.run == 1 else None
    if header.do_sample and seed is None and state is None:
        raise impossible("its tokens were drawn, and neither a seed nor the random state is in the trace")
    if draw is None:
        return _RngStart(seed, state, "cpu", None)
    return _RngStart(seed, state, draw.device, draw.digest)


def _was_cut_short(end: RunEnd | None) -> bool:
    return end is None or end.status is not RunStatus.COMPLETE or end.ended_by is not None


def _refuse_foreign_inputs(head: StepHead) -> None:
    """Refuse a run that settings and a prompt cannot bring about again.

    Raises:
        UsageError: it had model inputs that are not recorded, or a cache from before.
    """
    first = head.first_inputs
    foreign = sorted({tensor.name for tensor in first.tensors} - _REPEATABLE_INPUTS)
    if foreign:
        raise impossible(f"the model was given {', '.join(foreign)}, which a trace does not keep")
    if head.prefill_chunks:
        raise impossible("its prompt was read in parts, of which the last alone was recorded")
    if first.new_start:
        raise impossible("it began with a filled KV cache, which a trace does not keep")


def _forwards_with_logits(run: RecordedRun, heads: list[StepHead]) -> dict[int, int]:
    if not logits_follow(run.header):
        return {}
    before = itertools.accumulate((head.passes + head.extra_forwards for head in heads), initial=0)
    return {
        forward + head.passes: head.step
        for forward, head in zip(before, heads, strict=False)
        if LOGITS in run.tensor_names(head.step)
    }
