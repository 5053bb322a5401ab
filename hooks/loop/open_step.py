"""The step in progress: what has been caught of it so far, and how it becomes a caught step on the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hooks.caught_step import CaughtStep
from hooks.decoding.loop_watch import LoopWatch
from hooks.kv_cache.proof import CacheReading
from hooks.kv_cache.watch import signature_in
from hooks.loop.forward_arguments import what_is_read
from hooks.loop.forward_result import forward_result
from hooks.modules.call_notes import CallNotes
from hooks.modules.module_watch import ModuleWatch
from hooks.modules.reduction import QueuedCalls
from hooks.saved_tensors import SavedValues, saved_tensors
from hooks.scores.random_state import RngStates, generator_state
from hooks.scores.stages import ScoreStages
from hooks.tensors import clone, spec_of
from tracer.schema.columns import NO_TOKEN


@dataclass(slots=True)
class OpenStep:
    """The step in progress.

    Attributes:
        caught: its values and tensors so far.
        began: the run's clock at its start.
        forward_began: the same at the start of its forward pass.
        passes: forward passes of its own that are over.
        expected: whether one of them is prepared and has not begun.
        given: the ids or embeddings that were prepared for it.
        forwarded: whether all of them are.
        awaited: whether its own forward pass is still to be prepared.
        processing: whether its processors run, which may make forward passes of their own.
        calls: notes of its module calls, once they were taken.
        scores: its score stages so far.
        rng_before: RNG state before the draw, once the last processor has run.
    """

    caught: CaughtStep
    began: float
    forward_began: float = 0.0
    passes: int = 0
    expected: bool = False
    given: torch.Tensor | None = None
    forwarded: bool = False
    awaited: bool = False
    processing: bool = False
    calls: CallNotes | None = None
    scores: ScoreStages | None = None
    rng_before: torch.Tensor | None = None

    def expect(self, inputs: Mapping[str, Any]) -> None:
        """A forward pass of its own is prepared.

        Args:
            inputs: the arguments of the coming ``forward``.
        """
        self.expected, self.given = True, what_is_read(inputs)

    def is_expected(self, arguments: Mapping[str, Any]) -> bool:
        """Whether a forward pass that begins is its own.

        Of several that are prepared at once each reads a part of what was prepared, which is a view of it.

        Args:
            arguments: of ``forward``, by name.
        """
        if not self.expected or not self.passes or self.given is None:
            return self.expected
        read = what_is_read(arguments)
        return read is not None and _memory(read) == _memory(self.given)

    def rng_states(self) -> RngStates | None:
        """The RNG states before the draw and now; None where nothing is drawn."""
        if self.rng_before is None or self.scores is None:
            return None
        device = self.scores.device
        return RngStates(device, self.rng_before, generator_state(device))


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def peek(
    step: OpenStep,
    local: Mapping[str, Any],
    modules: ModuleWatch,
    reading: CacheReading | None,
    loop: LoopWatch,
) -> CaughtStep:
    """The step as far as it has come; a copy, and the step goes on as if nobody had asked.

    Args:
        step: the step in progress.
        local: locals of a library frame that stands still, for what has not reached a hook yet:
            ``logits`` in ``forward``, ``outputs`` with the cache and the logits before the first processor,
            the longer ``input_ids``.
        modules: the module watch of the run.
        reading: what was read of its KV cache.
        loop: the watch of the run's loop.

    Returns:
        The step on the host, with as many score stages as there are, and no token chosen where none is.
    """
    caught = step.caught.copy()
    caught.calls = modules.peek(step.calls)
    if step.awaited and step.forwarded:
        caught.keep_prompt_pass(calls=modules.count)
    _add_locals(caught, step, local, loop)
    caught.rng = step.rng_states()
    tensors = caught.tensors
    if tensors.scores is not None:
        caught.stages = len(tensors.scores)
        if tensors.chosen is None:
            tensors.chosen = torch.full((caught.rows,), NO_TOKEN)
    bring_to_host(caught, None, reading)
    return caught


def peek_saved(step: OpenStep) -> dict[str, SavedValues]:
    """The tensors that a step has saved so far, by name.

    Args:
        step: the step in progress, which goes on as if nobody had asked.
    """
    tensors = step.caught.tensors
    caught = step.caught.copy()
    caught.tensors.saved, caught.tensors.cache_slots = {**tensors.saved}, tensors.cache_slots
    caught.tensors.to_host()
    return dict(saved_tensors(caught))


def _add_locals(caught: CaughtStep, step: OpenStep, local: Mapping[str, Any], loop: LoopWatch) -> None:
    logits, outputs, ids = local.get("logits"), local.get("outputs"), local.get("input_ids")
    if caught.forward is None and isinstance(logits, torch.Tensor) and logits.dim() == 3:
        caught.forward = forward_result(logits, caught.rows, 1 if step.awaited else loop.stacked)
    _add_cache(caught, step, outputs)
    _add_scores(caught, step, local, loop)
    _add_decided(caught, loop)
    if isinstance(ids, torch.Tensor) and ids.shape[1:] == (caught.ids_spec.shape[1] + 1,):
        caught.next_ids_spec = spec_of(ids)
        caught.tensors.chosen = clone(ids[:, -1])


def _add_scores(caught: CaughtStep, step: OpenStep, local: Mapping[str, Any], loop: LoopWatch) -> None:
    """The scores after each processor that has run, or those that the first one will begin with."""
    scores = step.scores or loop.scores()
    if scores is not None:
        caught.tensors.scores = [*scores.stages]
    elif (step.forwarded or step.awaited) and (first := loop.first_scores(local)) is not None:
        caught.tensors.scores = [first.detach().float()]


def _add_decided(caught: CaughtStep, loop: LoopWatch) -> None:
    """What only this loop does, as far as it has come; scores go with the rows that continue theirs."""
    if caught.tensors.scores is None:
        return
    loop.put(caught)
    if caught.parents:
        caught.tensors.scores = [stage[[*caught.parents]] for stage in caught.tensors.scores]


def _add_cache(caught: CaughtStep, step: OpenStep, outputs: object) -> None:
    """The cache as the forward pass left it, while the arguments of the next step are not made."""
    ran = step.forwarded or caught.forward is not None
    if ran and not caught.updated and isinstance(outputs, Mapping):
        caught.cache_after = signature_in(outputs, caught.model, caught.sequence_length)


def bring_to_host(
    caught: CaughtStep, queued: QueuedCalls | None, reading: CacheReading | None
) -> list[torch.Tensor]:
    """Bring everything that a step holds to the host, waiting for a GPU once.

    Args:
        caught: the step.
        queued: its module calls, whose statistics are still on their devices.
        reading: what was read of its KV cache.

    Returns:
        The checksums of what was read of the cache.
    """
    results, sums = queued.results if queued else [], reading.sums if reading else []
    copies = caught.tensors.to_host([*results, *sums])
    results, sums = copies[: len(results)], copies[len(results) :]
    if queued is not None:
        caught.calls = queued.reduced(results)
        caught.changed_by_hook = queued.changed(results)
    if reading is not None:
        caught.cache_read = reading, sums
    return sums
