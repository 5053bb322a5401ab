"""One step as the hooks caught it, before records are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy.typing as npt
import torch

from hooks.known_models import ANY_MODEL, KnownModel
from hooks.kv_cache.proof import CacheReading
from hooks.kv_cache.signature import NO_CACHE, CacheSignature
from hooks.modules.reduction import ReducedCalls
from hooks.scores.random_state import RngStates
from hooks.tensors import Spec, to_host, to_host_all
from tracer.analysis.scores.summary import QuickSummary
from tracer.schema.arrays import Bools
from tracer.schema.assisted import AssistedStep
from tracer.schema.beams import BeamStep
from tracer.schema.changes import ChangedOutput, Intervention
from tracer.schema.checks import Check, Violation
from tracer.schema.contrast import LayerContrast
from tracer.schema.faults import CaptureError, Failure, OptionalCapture, Uncaptured
from tracer.schema.ranking import ContrastiveStep
from tracer.schema.run import NotSeen, StopName
from tracer.schema.step import ForwardResult
from tracer.schema.tensors import TensorInfo

Array = npt.NDArray[Any]

Checked = tuple[Check, tuple[Violation, ...]]
"""A check with what did not hold in it."""

_SINGLE = ("mask", "chosen", "done", "next_position", "cache_norms", "cache_slots")
_GROUPS = ("arguments", "prompt", "later", "fired", "loop", "saved")


@dataclass(slots=True)
class StepTensors:
    """Private copies of a step's tensors: on their devices until the step is over, then on the host.

    Attributes:
        mask: attention mask over the whole sequences, ``[batch, length]``.
        arguments: integer arguments of ``forward``, by name.
        prompt: the same, and the mask, of the forward pass over the prompt where the step has another one.
        later: the same of each later one of a step's own forward passes, by its number and the name.
        scores: ``[batch, vocab]`` at each stage.
        chosen: ``[batch]`` the appended tokens.
        fired: ``[batch]`` answer of each stopping criterion, by its index.
        done: ``[batch]`` the criteria's common answer.
        next_position: ``cache_position`` of the next step.
        cache_norms: of the new cache slots, ``[2 · layers, batch, KV heads, new slots]``, keys first.
        cache_slots: the new cache slots where they are stored, with the head dimension behind.
        loop: what only the loop of this run has, by names that its own file gives.
        saved: other tensors that the trace stores, by name.
    """

    mask: torch.Tensor | None = None
    arguments: dict[str, torch.Tensor] = field(default_factory=dict)
    prompt: dict[str, torch.Tensor] = field(default_factory=dict)
    later: dict[tuple[int, str], torch.Tensor] = field(default_factory=dict)
    scores: list[torch.Tensor] | None = None
    chosen: torch.Tensor | None = None
    fired: dict[int, torch.Tensor] = field(default_factory=dict)
    done: torch.Tensor | None = None
    next_position: torch.Tensor | None = None
    cache_norms: torch.Tensor | None = None
    cache_slots: torch.Tensor | None = None
    loop: dict[str, torch.Tensor] = field(default_factory=dict)
    saved: dict[str, torch.Tensor] = field(default_factory=dict)

    def copy(self) -> StepTensors:
        """The same tensors without those that the trace stores; later additions to either stay its own."""
        return replace(
            self,
            arguments={**self.arguments},
            prompt={**self.prompt},
            later={**self.later},
            fired={**self.fired},
            loop={**self.loop},
            cache_slots=None,
            saved={},
        )

    def to_host(self, others: Sequence[torch.Tensor] = ()) -> list[torch.Tensor]:
        """Bring all tensors to the host; on a GPU this waits for the device once.

        Args:
            others: tensors that are not among the step's.

        Returns:
            Copies of those.
        """
        tensors = [*self._all(), *others]
        if False not in [tensor.is_cpu for tensor in tensors]:
            return [*others]
        copies = iter(to_host_all(tensors))
        if self.scores is not None:
            self.scores = [next(copies) for _ in self.scores]
        for name in _SINGLE:
            if getattr(self, name) is not None:
                setattr(self, name, next(copies))
        for group in _GROUPS:
            setattr(self, group, {key: next(copies) for key in getattr(self, group)})
        return [*copies]

    @property
    def nbytes(self) -> int:
        """Size in memory, in bytes."""
        return sum([tensor.nbytes for tensor in self._all()])

    def _all(self) -> list[torch.Tensor]:
        """The scores, then the others as they are named above; asked twice a step, it names each itself."""
        single = (
            self.mask,
            self.chosen,
            self.done,
            self.next_position,
            self.cache_norms,
            self.cache_slots,
        )
        return [
            *(self.scores or ()),
            *[tensor for tensor in single if tensor is not None],
            *self.arguments.values(),
            *self.prompt.values(),
            *self.later.values(),
            *self.fired.values(),
            *self.loop.values(),
            *self.saved.values(),
        ]


@dataclass(frozen=True)
class LoopRecord:
    """The records of what only one decoding loop does.

    Attributes:
        contrast: of DoLa decoding.
        beams: of beam search.
        assisted: of assisted decoding.
        contrastive: of contrastive search.
        checks: checks of it, each with its violations.
    """

    contrast: LayerContrast | None = None
    beams: BeamStep | None = None
    assisted: AssistedStep | None = None
    contrastive: ContrastiveStep | None = None
    checks: tuple[tuple[Check, tuple[Violation, ...]], ...] = ()


NOTHING_ELSE = LoopRecord()


class CaughtLoop(Protocol):
    """What was caught of a step beyond what every loop does; its tensors are ``step.tensors.loop``."""

    def describe(self, step: CaughtStep) -> LoopRecord:
        """Make the records; runs on the thread that writes.

        Args:
            step: the step, on the host.
        """


@dataclass(frozen=True)
class CaughtPass:
    """A forward pass over the prompt before the one of its step; its tensors are ``step.tensors.prompt``.

    Attributes:
        inputs: name and spec of every tensor argument of ``forward``.
        others: its other arguments as text.
        sequence_length: positions of each row.
        fed: tokens that went into the model.
        cache: signature of the KV cache behind it.
        forward: specs of its results.
        calls: how many module calls it made.
        seconds: how long it took.
    """

    inputs: list[tuple[str, TensorInfo]]
    others: dict[str, str]
    sequence_length: int
    fed: int
    cache: CacheSignature
    forward: ForwardResult | None
    calls: int
    seconds: float


@dataclass(slots=True)
class CaughtStep:
    """One step as the hooks saw it: plain values, and private copies of tensors.

    Attributes:
        number: step number, from 1.
        started: seconds since the start of the run.
        input_specs: name and spec of every tensor argument of ``forward``.
        others: its other arguments as text.
        ids_spec: spec of ``input_ids`` before the step.
        sequence_length: positions of each row before the step.
        leading: those of them that have no token id.
        fed: tokens that go into the model.
        candidates: how often each row of the batch goes into the model, with another token each time.
        prompt: the forward pass over the prompt, where the step has another one behind it.
        stages: number of score stages.
        tensors: copies of tensors.
        model: what is known of the model.
        ordinary: whether it is known to take one slot and one position for each token that goes in.
        cache_before: signature of the KV cache before the step.
        cache_after: the same after its forward pass.
        cache_read: what was read of the cache to prove that it only grows, and the checksums on the host.
        vocab_size: width of the scores.
        forward: specs of the results of the forward pass; None where it ran inside a compiled graph.
        forward_seconds: how long it took; where it is several, all of them.
        passes: how many forward passes it is so far, one after the other.
        extra_forwards: forward passes that a processor or a hook made.
        prefill_chunks: forward passes before this one that read the prompt in parts.
        loop: what only the loop of this run has; None where there is nothing.
        logits: ``[batch, vocab]`` the model's own at the last position, where something asks for them and the
            processors begin with other scores; until the step is over.
        parents: for each row after the step, the row before it that it continues; empty where rows stay.
            Scores are those of the row that is continued.
        calls: its module calls.
        rng: RNG states around the draw.
        next_ids_spec: spec of ``input_ids`` after the step.
        updated: whether the arguments of the next step were prepared.
        next_mask_spec: spec of the next step's attention mask.
        summary: the summary of the scores where it was made at once.
        checks: results of checks made so far.
        violations: what did not hold.
        errors: faults in recording.
        uncaptured: captures that could not be had.
        interventions: what the user changed.
        failure: what ended the run in this step.
        not_seen: modules of which something is not recorded from this step on.
        changed_by_hook: outputs that forward hooks have changed.
        finished: rows that had ended by the end of the step; None until its records are built.
        seconds: how long the step took.
    """

    number: int
    started: float
    input_specs: list[tuple[str, Spec]]
    others: dict[str, str]
    ids_spec: Spec
    sequence_length: int
    fed: int
    stages: int
    candidates: int = 1
    prompt: CaughtPass | None = None
    leading: int = 0
    tensors: StepTensors = field(default_factory=StepTensors)
    model: KnownModel = ANY_MODEL
    ordinary: bool = True
    cache_before: CacheSignature = NO_CACHE
    cache_after: CacheSignature = NO_CACHE
    cache_read: tuple[CacheReading, list[torch.Tensor]] | None = None
    vocab_size: int = 0
    forward: ForwardResult | None = None
    forward_seconds: float = 0.0
    passes: int = 1
    extra_forwards: int = 0
    prefill_chunks: int = 0
    loop: CaughtLoop | None = None
    logits: torch.Tensor | None = None
    parents: tuple[int, ...] = ()
    calls: ReducedCalls | None = None
    rng: RngStates | None = None
    next_ids_spec: Spec | None = None
    updated: bool = False
    next_mask_spec: Spec | None = None
    summary: QuickSummary | None = None
    checks: list[Check] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    errors: list[CaptureError] = field(default_factory=list)
    uncaptured: list[Uncaptured] = field(default_factory=list)
    interventions: list[Intervention] = field(default_factory=list)
    failure: Failure | None = None
    not_seen: tuple[NotSeen, ...] = ()
    changed_by_hook: tuple[ChangedOutput, ...] = ()
    finished: Bools | None = None
    seconds: float = 0.0

    def copy(self) -> CaughtStep:
        """The same step without the tensors that the trace stores; later additions to either stay its own."""
        return replace(
            self,
            tensors=self.tensors.copy(),
            checks=[*self.checks],
            violations=[*self.violations],
            errors=[*self.errors],
            uncaptured=[*self.uncaptured],
            interventions=[*self.interventions],
        )

    def miss(self, capture: OptionalCapture, stop: StopName, reason: str) -> None:
        """Note that a capture could not be had.

        Args:
            capture: which.
            stop: where it belongs.
            reason: why.
        """
        self.uncaptured.append(Uncaptured(capture=capture, stop=stop, reason=reason))

    def keep_prompt_pass(self, *, calls: int) -> None:
        """The forward pass that is over was the one over the prompt: make room for the step's own.

        Args:
            calls: module calls so far.
        """
        tensors = self.tensors
        self.prompt = CaughtPass(
            inputs=self.inputs,
            others=self.others,
            sequence_length=self.sequence_length,
            fed=self.fed,
            cache=self.cache_after,
            forward=self.forward,
            calls=calls,
            seconds=self.forward_seconds,
        )
        tensors.prompt, tensors.arguments = tensors.arguments, {}
        if tensors.mask is not None and self.has_input("attention_mask"):
            tensors.prompt.setdefault("attention_mask", tensors.mask)
        self.input_specs, self.others, self.fed = [], {}, 0
        tensors.mask, self.forward, self.forward_seconds = None, None, 0.0

    def release_scores(self) -> None:
        """Release the memory of the scores where there is a summary of them."""
        if self.summary is not None:
            self.tensors.scores = None

    def has_input(self, name: str) -> bool:
        """Whether the model is given an argument of this name, be it a tensor or not."""
        return name in self.others or any(name == given for given, _ in self.input_specs)

    @property
    def rows(self) -> int:
        """Rows of the batch."""
        return self.ids_spec.shape[0]

    @property
    def inputs(self) -> list[tuple[str, TensorInfo]]:
        """Records of :attr:`input_specs`; these and the next are made on the thread that writes."""
        return [(name, spec.record) for name, spec in self.input_specs]

    @property
    def ids_before(self) -> TensorInfo:
        """The record of :attr:`ids_spec`."""
        return self.ids_spec.record

    @property
    def ids_after(self) -> TensorInfo | None:
        """The record of :attr:`next_ids_spec`."""
        return None if self.next_ids_spec is None else self.next_ids_spec.record

    @property
    def next_mask(self) -> TensorInfo | None:
        """The record of :attr:`next_mask_spec`."""
        return None if self.next_mask_spec is None else self.next_mask_spec.record

    @property
    def written(self) -> int:
        """Slots of the KV cache that the step should add to each row, if each token that goes in has one."""
        return self.fed + (0 if self.prompt is None else self.prompt.fed)

    @property
    def cached(self) -> int:
        """Positions that the model had read before the forward pass."""
        return (self.cache_before if self.prompt is None else self.prompt.cache).positions

    @property
    def nbytes(self) -> int:
        """Size of the tensors and of the notes of module calls, in bytes."""
        return self.tensors.nbytes + (0 if self.calls is None else self.calls.nbytes)


def as_array(tensor: torch.Tensor | None) -> Array | None:
    """The values of a tensor of a step as an array, None if it was not caught."""
    return None if tensor is None else to_host(tensor)
