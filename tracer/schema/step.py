"""One iteration of the decoding loop: metadata as records, numbers as columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from tracer.schema.arrays import F32, I32, Bools
from tracer.schema.base import Record, short_repr
from tracer.schema.cache import CacheState
from tracer.schema.run import NotSeen, StopName
from tracer.schema.tensors import IntValues, NamedTensor, TensorInfo

NO_TOKEN = -1
"""Pads a row's token list where another row of the batch has more tokens."""

REMOVED_CAP = 32
"""A stage that removes more tokens than this is described by its count and the recorded tokens."""


class ModelInputs(Record):
    """The arguments of ``self(**model_inputs, return_dict=True)``.

    Attributes:
        tensors: every tensor argument in the order of ``model_inputs``.
        others: every other argument as short text (``use_cache: True``).
        sequence_length: positions of each row before this step.
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


CheckName = Literal["cache", "positions", "modules", "finite"]


CheckResult = Literal["held", "failed", "not made"]


class Check(Record):
    """What became of one check in this step.

    A check fails only where its rule is known to apply to the model and the cache; where that is not known,
    or what it needs was not to be had, it was not made.

    Attributes:
        name: which check.
        result: whether it held, failed, or was not made.
        checked: number of things checked (cache: layers; modules: calls; positions: rows).
        total: number of things there were.
        reason: why it was not made; None where it was.
        note: what has to be said of it besides: things that could not be checked, or that look like a fault
            and are none.
    """

    name: CheckName
    result: CheckResult
    checked: int = 0
    total: int = 0
    reason: str | None = None
    note: str | None = None

    @staticmethod
    def made(name: CheckName, *, holds: bool, checked: int, total: int) -> Check:
        """A check that was made.

        Args:
            name: which check.
            holds: whether it held.
            checked: number of things checked.
            total: number of things there were.
        """
        return Check(name=name, result="held" if holds else "failed", checked=checked, total=total)

    @staticmethod
    def not_made(name: CheckName, reason: str, *, total: int = 0) -> Check:
        """A check that was not made.

        Args:
            name: which check.
            reason: why, as the end of the sentence "not checked: …".
            total: number of things there were.
        """
        return Check(name=name, result="not made", total=total, reason=reason)

    @property
    def held(self) -> bool:
        """Whether it was made and held."""
        return self.result == "held"

    @property
    def failed(self) -> bool:
        """Whether it was made and did not hold."""
        return self.result == "failed"


class Violation(Record):
    """A check that did not hold.

    Attributes:
        check: which check.
        message: one line: what was expected and what was found.
        row: the row concerned, None for all.
        module: index of the module concerned.
        layer: the cache layer concerned.
    """

    check: CheckName
    message: str
    row: int | None = None
    module: int | None = None
    layer: int | None = None


ProbedCapture = Literal["lens", "attention"]
"""An optional capture that a probe of its own records."""


OptionalCapture = Literal["lens", "attention", "kv"]
"""A capture that is recorded only if it is asked for, and may not be had of every model."""


class Uncaptured(Record):
    """A capture that was asked for and is not in a step, with no fault in recording; said once a run.

    Attributes:
        capture: which.
        stop: the stop at which it belongs.
        reason: why it could not be had.
    """

    capture: OptionalCapture
    stop: StopName
    reason: str


class CaptureError(Record):
    """A fault in recording; the generation continued.

    Attributes:
        stop: the stop at which it happened.
        message: exception type and text.
        capture: the optional capture that failed; None for any other fault.
    """

    stop: StopName
    message: str
    capture: ProbedCapture | None = None


class Intervention(Record):
    """Something the user changed while stepping; the run is no longer the model's own.

    Attributes:
        kind: ``force``, ``ban`` or ``set``.
        detail: the token or the changed setting as the user sees it.
        token: id of the token that was forced or banned; None for a setting, and in traces of format 1.
        setting: the changed setting, by its name in the generation config or at the processor; None for a
            token.
        value: its new value; None for a token.
    """

    kind: Literal["force", "ban", "set"]
    detail: str
    token: int | None = None
    setting: str | None = None
    value: int | float | None = None


class Failure(Record):
    """An exception that ended the run in the middle of a step, which is recorded as far as it went.

    Attributes:
        stop: the stop at which it came up.
        message: class and text of the exception.
        module: index of the module that was running; None outside of all modules.
    """

    stop: StopName
    message: str
    module: int | None = None


class ChangedOutput(Record):
    """An output that a forward hook of the user's replaced or wrote to, as the module itself gave it.

    Attributes:
        module: the module's index.
        before: the first tensor that ``forward`` returned; None where it could not be looked at.
        mean: of its values; None where no statistics were taken.
        std: population standard deviation.
        low: minimum.
        high: maximum.
    """

    module: int
    before: TensorInfo | None = None
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None


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
        extra_forwards: forward calls inside the step beyond the first (e.g. by a guidance processor).
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
    extra_forwards: int = 0
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
    def phase(self) -> Literal["prefill", "decode"]:
        """``prefill`` for step 1, ``decode`` for every later one."""
        return "prefill" if self.step == 1 else "decode"


class CallShape(Record):
    """Specs of the inputs and outputs of a module call, without the module; interned, since few differ.

    Attributes:
        inputs: tensors among the arguments, positional first.
        outputs: tensors in the result, in order.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


class CallLayout(Record):
    """Which modules were called in a step, in the order in which the calls returned.

    Attributes:
        modules: module index per call.
        not_called: indices of registered modules that were not called.
    """

    modules: tuple[int, ...]
    not_called: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ScoreColumns:
    """The score pipeline, from raw logits to the choice.

    S stages (stage 0: raw logits; stage i: after processor i), B rows, T recorded tokens, R removed tokens.
    The recorded tokens of a row are the highest raw logits, the candidates left at the end (each list up to
    the cap) and the chosen token, in the order of final probability, then raw logit.

    Attributes:
        tokens: ``[B, T]`` ids, :data:`NO_TOKEN` where a row has fewer.
        scores: ``[S, B, T]`` score of each recorded token at each stage; ``-inf`` once removed.
        probabilities: ``[B, T]`` softmax of the last stage.
        kept: ``[S, B]`` tokens with a score above ``-inf``.
        changed: ``[S, B]`` scores that the stage's processor changed, removals included (0 at stage 0).
        removed: ``[S, B]`` scores that it set to ``-inf``.
        mass_removed: ``[S, B]`` probability, at the stage before, of what it removed.
        entropy: ``[S, B]`` entropy of the stage's softmax in bits.
        removed_tokens: ``[S, B, R]`` the removed ids if there are at most :data:`REMOVED_CAP`, else
            :data:`NO_TOKEN`.
        candidates: ``[B]`` tokens with probability > 0 at the end (the true count, uncapped).
        chosen: ``[B]`` the token appended to each row (the pad token for a finished row);
            :data:`NO_TOKEN` where the run failed before.
        chosen_rank: ``[S, B]`` 1 + number of tokens with a higher score at that stage.
        chosen_scores: ``[S, B]`` score of the chosen token.
        chosen_probability: ``[B]``.
        finished: ``[B]`` whether the row had ended before this step.
    """

    tokens: I32
    scores: F32
    probabilities: F32
    kept: I32
    changed: I32
    removed: I32
    mass_removed: F32
    entropy: F32
    removed_tokens: I32
    candidates: I32
    chosen: I32
    chosen_rank: I32
    chosen_scores: F32
    chosen_probability: F32
    finished: Bools


@dataclass(frozen=True, eq=False)
class ModuleColumns:
    """Shape and statistics per module call, in the order of the step's :class:`CallLayout`.

    Attributes:
        shapes: ``[C]`` number of the call's :class:`CallShape`.
        mean: ``[C]`` of the first output tensor; NaN where no statistics were taken.
        std: ``[C]`` population standard deviation.
        low: ``[C]`` minimum.
        high: ``[C]`` maximum.
        nonfinite: ``[C]`` number of NaN and infinite values; -1 where no statistics were taken.
    """

    shapes: I32
    mean: F32
    std: F32
    low: F32
    high: F32
    nonfinite: I32

    @property
    def largest(self) -> F32:
        """``[C]`` largest absolute value."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


@dataclass(frozen=True, eq=False)
class CacheColumns:
    """Euclidean norms of the slots that this step wrote.

    L layers, B rows, H KV heads, N new slots.

    Attributes:
        key_norm: ``[L, B, H, N]``.
        value_norm: ``[L, B, H, N]``.
    """

    key_norm: F32
    value_norm: F32


_ROWS_IN_REPR = 3


def named_token(token: int, text: str | None) -> str:
    """A token as a line of Python shows it: its text, if it is known, and its id.

    Args:
        token: its id.
        text: its text.
    """
    return f"token {token}" if text is None else f"'{short_repr(text)}' ({token})"


@dataclass(frozen=True)
class Candidate:
    """One token that could have been chosen.

    Attributes:
        token: its id.
        raw: raw logit.
        score: score after all processors and warpers.
        probability: softmax of the scores.
        text: its text, in a step of an open recording; None where it is not known.
    """

    token: int
    raw: float
    score: float
    probability: float
    text: str | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        figures = f"p {self.probability:.4f}, score {self.score:.4f}, raw logit {self.raw:.4f}"
        return f"<candidate {named_token(self.token, self.text)}: {figures}>"


@dataclass(frozen=True)
class Choice:
    """The token appended to a row.

    Attributes:
        token: its id.
        probability: its probability in the distribution chosen from.
        rank: its rank there, from 1.
        padding: the row had ended before; the token only fills the batch.
        text: its text, in a step of an open recording; None where it is not known.
    """

    token: int
    probability: float
    rank: int
    padding: bool
    text: str | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        how = "padding" if self.padding else f"p {self.probability:.4f}, rank {self.rank}"
        return f"<choice {named_token(self.token, self.text)}: {how}>"


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
