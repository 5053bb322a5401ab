"""One iteration of the decoding loop: metadata as records, numbers as columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tracer.schema.assisted import AssistedStep
from tracer.schema.base import Record
from tracer.schema.beams import BeamStep
from tracer.schema.cache import CacheState
from tracer.schema.calls import CallLayout, CallShape
from tracer.schema.changes import ChangedOutput, Intervention
from tracer.schema.checks import Check, Violation
from tracer.schema.choice import Candidate, Choice, named_token
from tracer.schema.columns import NO_TOKEN, CacheColumns, ModuleColumns, ScoreColumns
from tracer.schema.contrast import LayerContrast
from tracer.schema.faults import CaptureError, Failure, OptionalCapture, Uncaptured
from tracer.schema.lineage import Parents
from tracer.schema.ranking import ContrastiveStep
from tracer.schema.run import NotSeen, Phase
from tracer.schema.tensors import IntValues, NamedTensor, TensorInfo


class ModelInputs(Record):
    """The arguments of ``self(**model_inputs, return_dict=True)``.

    Attributes:
        tensors: every tensor argument in the order of ``model_inputs``.
        others: every other argument as short text (``use_cache: True``).
        sequence_length: positions of each row before this step, tokens that are only proposed included.
        new_start: the first of the row's positions that the model has not seen yet;
            ``new_start … sequence_length - 1`` are new.
        leading: positions before the row's first token id: they were given as embeddings, or were in the KV
            cache when the run began. The rest, ``sequence_length - leading``, are ``input_ids``.
    """

    tensors: tuple[NamedTensor, ...]
    others: dict[str, str]
    sequence_length: int
    new_start: int
    leading: int = 0

    def tensor(self, name: str) -> NamedTensor | None:
        """The tensor argument of that name."""
        return next((tensor for tensor in self.tensors if tensor.name == name), None)

    @property
    def cache_name(self) -> str:
        """What the model calls its KV cache: ``past_key_values``, or ``cache`` since 5.23."""
        return "cache" if "cache" in self.others else "past_key_values"


class ForwardResult(Record):
    """What the forward pass returned.

    Attributes:
        hidden_states: output of the decoder stack, ``[batch, new tokens, hidden]``; None if not seen.
        logits: ``[batch, new tokens, vocabulary]``; only the last position chooses the next token.
        next_logits: ``outputs.logits[:, -1, :]`` as handed to the processors, ``[batch, vocabulary]``.
    """

    hidden_states: TensorInfo | None
    logits: TensorInfo
    next_logits: TensorInfo


class PromptPass(Record):
    """A forward pass over the prompt that comes before the forward pass of its step.

    Attributes:
        inputs: its model inputs.
        cache: the KV cache behind it.
        forward: shapes of its results; None if they were not seen.
        calls: how many of the step's module calls are its own; they are the first.
        seconds: how long it took on the host.
    """

    inputs: ModelInputs
    cache: CacheState
    forward: ForwardResult | None
    calls: int
    seconds: float


class Criterion(Record):
    """What one stopping criterion returned.

    Attributes:
        index: position in the run's ``criteria``.
        fired: rows that it stopped.
    """

    index: int
    fired: tuple[int, ...]


class KwargsUpdate(Record):
    """State after ``_update_model_kwargs_for_generation``, ready for the next step.

    Attributes:
        attention_mask: the mask for the next step, None if the model takes none.
        cache_position: positions that the next step will write, None if the model takes none.
    """

    attention_mask: TensorInfo | None
    cache_position: IntValues | None


class Draw(Record):
    """The RNG state before the choice, so that the draw can be repeated.

    The state is stored whole at some steps and otherwise follows from the step before by repeating its
    draw (``follows``): nothing else drew a random number in between, which the digests prove.

    Attributes:
        device: generator's device, e.g. ``cpu``.
        digest: BLAKE2b-64 of the state, hex.
        follows: the state is the RNG state after the previous step's draw.
        state: the whole state, hex; None where ``follows`` holds and the state was left out.
    """

    device: str
    digest: str
    follows: bool
    state: str | None = None


class StepHead(Record):
    """Metadata of a step; its numbers are in the columns of :class:`Step`.

    Attributes:
        run: number of the run in the file, from 1.
        step: number of the step, from 1; step 1 is the prefill.
        inputs: model inputs.
        cache_before: the KV cache before the forward pass.
        cache_after: the KV cache after the kwargs update.
        forward: shapes of the results; None if the forward pass was not seen.
        stages: number of score stages: 1 (raw) + processors + warpers.
        vocab_size: width of the score rows.
        ids_before: ``input_ids`` before the append.
        ids_after: ``input_ids`` after it.
        update: the kwargs for the next step.
        criteria: what the stopping criteria returned.
        unfinished: rows that continue after this step.
        layout: number of the module-call layout (see :class:`CallLayout`).
        passes: how many forward passes of its own it came to, one after the other (see ``RunHeader.passes``).
            Where they are several, the inputs are those before they are parted, or of the first candidate;
            the results are stacked to one.
        extra_forwards: forward calls inside the step beyond the first (e.g. by a guidance processor).
        prefill_chunks: forward passes that read the prompt in parts before the one that is recorded, which
            read the last part.
        contrast: the contrast of two layers that the scores began with, in DoLa decoding.
        beams: the continuations that a beam search decided about.
        assisted: the tokens that were proposed in assisted decoding, whose step may append several; the
            scores are those of the last one.
        contrastive: the candidates that a contrastive search has ranked; its forward pass is theirs, each row
            of the batch as often as it has candidates.
        prompt_pass: the forward pass over the prompt, where the step has another one behind it.
        draw: RNG state, when sampling.
        checks: checks made.
        violations: checks that did not hold.
        errors: faults in recording.
        uncaptured: captures that could not be had, each with a reason that no earlier step of the run gives.
        interventions: what the user changed in this step.
        failure: what ended the run in this step; None in every other step. Such a step may lack all that
            comes after it, and has no chosen token.
        not_seen: modules of which something is not recorded from this step on.
        changed_by_hook: outputs that forward hooks of the user's changed, the first of each module; the
            caller got what the hooks made of them, and that is what the module columns hold.
        started: seconds from the start of the run to the start of the step.
        forward_seconds: duration of the forward pass on the host (a GPU may still be working).
        seconds: duration of the step on the host, halts left out.
    """

    run: int
    step: int
    inputs: ModelInputs
    cache_before: CacheState
    cache_after: CacheState
    forward: ForwardResult | None
    stages: int
    vocab_size: int
    ids_before: TensorInfo
    ids_after: TensorInfo | None
    update: KwargsUpdate | None
    criteria: tuple[Criterion, ...]
    unfinished: tuple[int, ...]
    layout: int | None
    passes: int = 1
    extra_forwards: int = 0
    prefill_chunks: int = 0
    contrast: LayerContrast | None = None
    beams: BeamStep | None = None
    assisted: AssistedStep | None = None
    contrastive: ContrastiveStep | None = None
    prompt_pass: PromptPass | None = None
    draw: Draw | None = None
    checks: tuple[Check, ...] = ()
    violations: tuple[Violation, ...] = ()
    errors: tuple[CaptureError, ...] = ()
    uncaptured: tuple[Uncaptured, ...] = ()
    interventions: tuple[Intervention, ...] = ()
    failure: Failure | None = None
    not_seen: tuple[NotSeen, ...] = ()
    changed_by_hook: tuple[ChangedOutput, ...] = ()
    started: float
    forward_seconds: float
    seconds: float

    def __repr__(self) -> str:
        return f"<head of step {self.step} of run {self.run}: {self.phase}, {len(self.checks)} checks>"

    @property
    def first_inputs(self) -> ModelInputs:
        """The model inputs of the first forward pass of the step."""
        return self.inputs if self.prompt_pass is None else self.prompt_pass.inputs

    @property
    def phase(self) -> Phase:
        """``prefill`` for step 1, ``decode`` for every later one."""
        return "prefill" if self.step == 1 else "decode"


_ROWS_IN_REPR = 3


@dataclass(frozen=True)
class Step:
    """One recorded step: its metadata and its numbers.

    Attributes:
        head: metadata.
        scores: score pipeline; None if recording it failed.
        modules: module calls.
        cache: norms of new cache slots; None at level ``shapes`` or for a cache of unknown layout.
        layout: which modules were called.
        shapes: the :class:`CallShape` of each number in ``modules.shapes``.
    """

    head: StepHead
    scores: ScoreColumns | None
    modules: ModuleColumns | None = None
    cache: CacheColumns | None = None
    layout: CallLayout | None = None
    shapes: dict[int, CallShape] = field(default_factory=dict)

    def __repr__(self) -> str:
        what = f"step {self.number} of run {self.head.run}: {self.head.phase}"
        if self.rows > 1:
            what += f", {self.rows} rows"
        chosen = [choice for choice in map(self.choice, range(min(self.rows, _ROWS_IN_REPR))) if choice]
        tokens = ", ".join(named_token(each.token, each.text) for each in chosen)
        more = ", …" if self.rows > _ROWS_IN_REPR and chosen else ""
        chose = f"chose {tokens}{more}" if chosen else "its choice was not recorded"
        trouble = ", with trouble" if self.head.violations or self.head.errors else ""
        return f"<{what}, {chose}{trouble}>"

    @property
    def number(self) -> int:
        """The step's number, from 1."""
        return self.head.step

    @property
    def rows(self) -> int:
        """Rows of the batch."""
        return self.head.ids_before.shape[0]

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """Candidates of row 0, most probable first (see :meth:`candidates_of`)."""
        return self.candidates_of(0)

    def candidates_of(self, row: int) -> tuple[Candidate, ...]:
        """Recorded tokens with probability > 0, most probable first.

        The list is capped; ``scores.candidates[row]`` is the true count.

        Args:
            row: row of the batch.
        """
        scores = self.scores
        if scores is None:
            return ()
        found = [
            Candidate(
                int(scores.tokens[row, t]),
                float(scores.scores[0, row, t]),
                float(scores.scores[-1, row, t]),
                float(scores.probabilities[row, t]),
            )
            for t in np.flatnonzero(scores.tokens[row] != NO_TOKEN)
            if scores.probabilities[row, t] > 0
        ]
        return tuple(sorted(found, key=lambda candidate: -candidate.probability))

    @property
    def parents(self) -> Parents:
        """For each row after the step, the row before it that it continues; empty where rows stay.

        The scores of a row are those of the row that it continues, from which its token was chosen.
        """
        return () if self.head.beams is None else self.head.beams.parents

    def parent(self, row: int) -> int:
        """The row before the step that a row after it continues.

        Args:
            row: the row after it.
        """
        return self.parents[row] if self.parents else row

    def appended(self, row: int = 0) -> tuple[int, ...]:
        """The tokens that the step appends to a row, in order; none where its choice was not recorded.

        Args:
            row: row of the batch.
        """
        if self.head.assisted is not None:
            return self.head.assisted.appended
        choice = self.choice(row)
        return () if choice is None else (choice.token,)

    def choice(self, row: int = 0) -> Choice | None:
        """The token chosen for a row; None if it was not recorded, or none was chosen.

        Args:
            row: row of the batch.
        """
        scores = self.scores
        if scores is None or scores.chosen[row] == NO_TOKEN:
            return None
        return Choice(
            int(scores.chosen[row]),
            float(scores.chosen_probability[row]),
            int(scores.chosen_rank[-1, row]),
            bool(scores.finished[row]),
        )


def uncaptured_reason(capture: OptionalCapture, steps: Iterable[Step]) -> str | None:
    """The first reason that steps give for not having a capture; None where they give none.

    Args:
        capture: which.
        steps: the steps, in order.
    """
    found = (each.reason for step in steps for each in step.head.uncaptured if each.capture == capture)
    return next(found, None)
