"""Catch the steps of one decoding loop, in the order in which they happen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any

import torch

from hooks.caught_step import CaughtStep
from hooks.decoding.loop_watch import LoopWatch
from hooks.faults import is_ours
from hooks.known_models import ANY_MODEL, KnownModel
from hooks.kv_cache.proof import CacheReading
from hooks.kv_cache.watch import CacheWatch, signature_in
from hooks.loop.course import Course, TokenChange
from hooks.loop.forward_arguments import (
    leading_positions,
    note_arguments,
    note_later,
    positions_fed,
    specs,
)
from hooks.loop.forward_result import forward_result
from hooks.loop.interventions import Interventions
from hooks.loop.open_step import OpenStep, bring_to_host, peek, peek_saved
from hooks.loop.run_clock import RunClock
from hooks.modules.call_notes import CallNotes, DeferredCalls
from hooks.modules.module_watch import ModuleWatch
from hooks.modules.nonfinite import BatchLayout
from hooks.modules.reduction import QueuedCalls
from hooks.printing import printed_error
from hooks.probes.probe import Probe
from hooks.saved_tensors import SavedValues
from hooks.scores.random_state import generator_state
from hooks.scores.stages import ScoreStages
from hooks.tensors import clone, spec_of
from hooks.user_modes import outside_autocast, unseen_by_modes
from tracer.schema.changes import Intervention
from tracer.schema.columns import NO_TOKEN
from tracer.schema.faults import CaptureError, Failure, ProbedCapture
from tracer.schema.run import StopName
from tracer.tracefile.encoding.slots import slot_names

EARLY_TOKENS = 64
"""Steps that feed more tokens than this (long prefills) reduce outputs one by one, to save memory."""


@dataclass(frozen=True)
class CaptureOptions:
    """What a run captures.

    Attributes:
        stages: number of score stages.
        candidates: cap of the lists of recorded tokens.
        sampling: whether tokens are drawn, so that there is an RNG state to record.
        statistics: whether to take statistics and check the cache's contents.
        save_logits: whether to store the raw logits.
        save_kv: whether to store the new cache slots.
        synced: whether the loop goes on with forward passes of no consequence when all rows have ended, until
            the other processes have too (``synced_gpus``).
        scores_stay: whether nothing is known to write into scores behind the processor that made them.
        deferred: whether the loop may ask one step late for its end, and undo what it does meanwhile.
        model: what is known of the model.
    """

    stages: int
    candidates: int
    sampling: bool
    statistics: bool
    save_logits: bool = False
    save_kv: bool = False
    synced: bool = False
    scores_stay: bool = False
    deferred: bool = False
    model: KnownModel = ANY_MODEL


class _Guard:
    """Turns a fault in recording into a capture error, so that the generation never notices."""

    __slots__ = ("_capture", "_run", "_stop")

    def __init__(self, run: RunCapture, stop: StopName, capture: ProbedCapture | None) -> None:
        self._run = run
        self._stop = stop
        self._capture = capture

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception) and is_ours(error):
            self._run.note_error(self._stop, error, self._capture)
            return True
        return False


class RunCapture:
    """Receives the events of one run from the hooks, and delivers each finished step.

    Args:
        modules: the module watch of the model.
        prompt: ``[batch, length]`` the ids that the run begins with.
        deliver: called with each finished step; returns whether the run shall end there.
        options: what to capture.
        loop: sees what only this run's loop does.
        probes: optional captures of the forward pass.
        processors: the processors and warpers themselves, in order, whose settings a user may change.
        course: what the run is told to choose, if it is told anything.
        together: the captures of all runs of this context: whoever halts one of them halts all.

    Attributes:
        steps: steps delivered so far.
        input_ids: ``[batch, length]`` as last seen, on the model's device.
        interventions: what the user changes in this run.
        loop: sees what only this run's loop does.
        rewritten: whether a processor has written into ids.
        clock: the run's clock; whoever halts the run lets it stand still.
    """

    def __init__(
        self,
        modules: ModuleWatch,
        prompt: torch.Tensor,
        deliver: Callable[[CaughtStep], bool],
        options: CaptureOptions,
        *,
        loop: LoopWatch,
        probes: Sequence[Probe] = (),
        processors: Sequence[Any] = (),
        course: Course | None = None,
        together: Callable[[], Sequence[RunCapture]] = tuple,
    ) -> None:
        self.steps = 0
        self._together = together
        self.interventions = Interventions([*processors], course)
        self.input_ids: torch.Tensor | None = None
        self._modules = modules
        self._prompt = prompt
        self._deliver = deliver
        self._options = options
        self.loop = loop
        self.rewritten = False
        self._probes = () if loop.unprobed else probes
        self._left_out = probes if loop.unprobed else ()
        self._cache = CacheWatch(options.model, statistics=options.statistics, save=options.save_kv)
        self._open: OpenStep | None = None
        self._stopped = False
        self._unfinished = {*range(len(prompt))}
        self._scores_stay = options.scores_stay
        self._leading = 0
        self._closing = threading.Lock()
        self.clock = RunClock(self._halted)
        self._began = self.clock.now()

    @property
    def number(self) -> int:
        """Number of the step in progress, from 1; between two steps that of the one before."""
        return self.steps if self._open is None else self._open.caught.number

    @property
    def in_other_pass(self) -> bool:
        """Whether a forward pass is in progress whose result is not that of the step, or not all of it.

        It may be one over the prompt, behind which the step has its own, or one of several of its own.
        """
        step = self._open
        if step is None or step.forwarded or not step.caught.input_specs:
            return False
        return step.awaited or step.passes != self.loop.stacked - 1

    def guard(self, stop: StopName, capture: ProbedCapture | None = None) -> _Guard:
        """A context in which an exception becomes a capture error.

        Args:
            stop: where it happens.
            capture: the optional capture that it concerns.
        """
        return _Guard(self, stop, capture)

    def note_error(self, stop: StopName, error: Exception, capture: ProbedCapture | None = None) -> None:
        """Record a fault in recording."""
        if self._open is not None:
            self._open.caught.errors.append(_capture_error(stop, error, capture))

    def _halted(self) -> None:
        for capture in {self, *self._together()}:
            capture.own_scores()

    def own_scores(self) -> None:
        """Whoever looks at the scores from now on may write into them."""
        self._scores_stay = False
        step = self._open
        if step is not None:
            self._leave_out_written(step)
        if step is not None and step.scores is not None:
            with self.guard("processors"):
                step.scores.own()

    def _leave_out_written(self, step: OpenStep) -> None:
        """Leave out scores that are not what they were, though nothing was known to write into them."""
        stage = None if step.scores is None else step.scores.written()
        if stage is not None:
            message = f"something wrote into the scores of stage {stage} behind its processor"
            step.caught.errors.append(CaptureError(stop="processors", message=message))
            step.scores = None

    @unseen_by_modes
    def on_prepared(
        self, input_ids: torch.Tensor, mask: torch.Tensor | None, inputs: Mapping[str, Any], began: float
    ) -> None:
        """``prepare_inputs_for_generation`` returned; a new step begins.

        Args:
            input_ids: the whole sequences so far.
            mask: the attention mask over them, before the model turned it into its own form.
            inputs: the arguments of the coming ``forward``.
            began: the run's clock when the call was made.
        """
        if self._stopped or self._undone:
            return
        step = self._open
        if step is not None and step.passes and not step.forwarded:
            self._next_pass(step, input_ids, mask, inputs)
        elif step is not None and step.awaited:
            self._go_on(step, input_ids, mask, inputs)
        else:
            self._begin_step(input_ids, mask, inputs, began)

    def _begin_step(
        self, input_ids: torch.Tensor, mask: torch.Tensor | None, inputs: Mapping[str, Any], began: float
    ) -> None:
        chunks = self._chunks_before()
        if self._open is not None and self._open.forwarded and not chunks:
            return  # a processor prepares a forward pass of its own
        if chunks:
            self._open = None
        if self._open is not None:
            self.close_step()
        if not self.steps and input_ids.shape[1] < self._prompt.shape[1]:
            input_ids = self._prompt  # a part of it may be all that is prepared
        self.input_ids = self.loop.decided_ids(input_ids)
        caught = self._caught(input_ids, inputs, began)
        caught.prefill_chunks = chunks
        self._open = OpenStep(caught, began, awaited=self.loop.prompt_pass(caught.number))
        self._open.expect(inputs)
        with self.guard("model-call"):
            self._note_inputs(caught, mask, inputs)

    def _go_on(
        self, step: OpenStep, input_ids: torch.Tensor, mask: torch.Tensor | None, inputs: Mapping[str, Any]
    ) -> None:
        """A step that has begun comes to its own forward pass."""
        caught = step.caught
        if step.processing:
            return  # a processor prepares a forward pass of its own
        if step.forwarded:
            caught.keep_prompt_pass(calls=self._modules.count)
        step.awaited, step.forwarded, step.passes = False, False, 0
        step.expect(inputs)
        caught.input_specs, caught.others = specs(inputs)
        caught.fed = positions_fed(inputs)
        caught.candidates = input_ids.shape[0] // caught.rows
        length = caught.sequence_length
        caught.sequence_length += caught.fed
        with self.guard("model-call"):
            note_arguments(caught, mask, inputs)
            self.loop.prepared(input_ids, inputs, length, 0)

    def _next_pass(
        self, step: OpenStep, input_ids: torch.Tensor, mask: torch.Tensor | None, inputs: Mapping[str, Any]
    ) -> None:
        """The next one of a step's own forward passes is prepared; the first one's arguments are recorded."""
        step.expect(inputs)
        with self.guard("model-call"):
            note_later(step.caught, step.passes, mask, inputs)
            length = step.caught.sequence_length - step.caught.fed
            self.loop.prepared(input_ids, inputs, length, step.passes)

    @unseen_by_modes
    def begin_with_scores(self) -> None:
        """The processors are about to run: in some loops a step begins with them."""
        if self._stopped or self._open is not None or not self.loop.scores_first or self.input_ids is None:
            return
        began = self.clock.now()
        caught = CaughtStep(
            number=self.steps + 1,
            started=began - self._began,
            input_specs=[],
            others={},
            ids_spec=spec_of(self.input_ids),
            sequence_length=self.input_ids.shape[1] + self._leading,
            leading=self._leading,
            fed=0,
            stages=self._options.stages,
            model=self._options.model,
            cache_before=self._cache.after,
            cache_after=self._cache.after,
            ordinary=self._cache.ordinary,
        )
        self._open = OpenStep(caught, began, awaited=True)

    @property
    def _undone(self) -> bool:
        """Whether the loop will undo what it does now: all rows have ended."""
        return self._options.deferred and not self._unfinished

    def _note_inputs(self, caught: CaughtStep, mask: torch.Tensor | None, inputs: Mapping[str, Any]) -> None:
        if caught.number == 1:
            self._cache.begin(inputs, max(0, caught.sequence_length - caught.fed))
            self._leading = leading_positions(caught, inputs, self._cache.after.length)
        caught.leading = self._leading
        caught.sequence_length += self._leading
        caught.cache_before, caught.ordinary = self._cache.after, self._cache.ordinary
        note_arguments(caught, mask, inputs)

    def _chunks_before(self) -> int:
        """Forward passes that have read the prompt in parts, if that is what another one goes on with.

        The last of them is the step's own: the first token is chosen from its logits.
        """
        step = self._open
        if step is None or not step.forwarded or self.steps or step.scores is not None:
            return 0
        return 0 if step.caught.updated else step.caught.prefill_chunks + 1

    def _caught(self, input_ids: torch.Tensor, inputs: Mapping[str, Any], began: float) -> CaughtStep:
        tensors, others = specs(inputs)
        return CaughtStep(
            number=self.steps + 1,
            started=began - self._began,
            input_specs=tensors,
            others=others,
            ids_spec=spec_of(self.loop.decided_ids(input_ids)),
            sequence_length=input_ids.shape[1],
            fed=positions_fed(inputs),
            stages=self._options.stages,
            model=self._options.model,
        )

    @unseen_by_modes
    def on_forward_begin(self, arguments: Mapping[str, Any]) -> bool:
        """``forward`` is about to run.

        Args:
            arguments: its arguments by name.

        Returns:
            Whether it is a forward pass of the step's own; False for one that a processor or a hook makes.
        """
        step = self._open
        if step is None:
            return False
        if step.processing or not step.is_expected(arguments):
            step.caught.extra_forwards += 1
            return False
        step.expected = False
        if not step.passes:
            self._begin_passes(step.caught)
        step.caught.passes = step.passes + 1
        step.forward_began = self.clock.now()
        return True

    def _begin_passes(self, caught: CaughtStep) -> None:
        """The first of the forward passes that are a step's own, or the one over the prompt, begins."""
        with self.guard("layers"):
            if caught.prompt is None:  # else the calls join those of the pass over the prompt
                batch = _batch(caught) if self.loop.passes == 1 else None
                early = caught.fed * caught.rows > EARLY_TOKENS
                self._modules.begin(early=early, single=caught.fed == 1, batch=batch)
        with self.guard("next-logits"):
            self.loop.begin()
        for probe in self._probes:
            with self.guard("layers", probe.capture):
                probe.begin()

    @unseen_by_modes
    def on_forward_end(self, outputs: Any) -> None:
        """The step's own forward pass returned."""
        step = self._open
        if step is None:
            return
        caught = step.caught
        caught.forward_seconds += self.clock.now() - step.forward_began
        # A pass over the prompt is one, whatever the step's own are.
        stacked, passes = (1, 1) if step.awaited else (self.loop.stacked, self.loop.passes)
        step.passes += 1
        step.forwarded = step.passes >= passes
        # Those whose results are stacked were prepared at once, unless others follow them.
        step.expected = not step.forwarded and stacked == passes
        for probe in self._probes:
            with self.guard("layers", probe.capture):
                probe.end()
        if step.passes == stacked:
            with self.guard("forward-result"):
                caught.forward = forward_result(outputs.logits, caught.rows, stacked)
        with self.guard("next-logits"):
            self.loop.forwarded(outputs)

    def on_changed_by_hook(self, index: int, before: torch.Tensor | None) -> None:
        """A forward hook has changed the output of a module (by index).

        Args:
            index: the module's index.
            before: a copy of the first tensor that ``forward`` returned, if there is one.
        """
        self._modules.changed_by_hook(index, before)

    def _take_calls(self, step: OpenStep) -> None:
        """The forward pass is over, and so are hooks behind the model's own ``forward``."""
        if step.calls is None:
            step.calls = self._modules.take()

    @unseen_by_modes
    def on_scores(self, stage: int, scores: torch.Tensor) -> None:
        """Scores ``[batch, vocab]`` at a stage."""
        if stage == 0:
            self.begin_with_scores()
        step = self._open
        if step is None:
            return
        with self.guard("processors"):
            if stage == 0:
                step.processing = True
                step.caught.vocab_size = scores.shape[-1]
                if not step.awaited:
                    self._take_calls(step)
                step.scores = ScoreStages(self._options.stages, scores, stay=self._scores_stay)
                if self._options.save_logits:
                    step.caught.tensors.saved["logits"] = clone(scores)
            if step.scores is not None:
                step.scores.put(stage, scores)

    def on_rewritten(self, name: str) -> None:
        """A processor has written into the ids that it was given.

        Args:
            name: its class.
        """
        self.rewritten = True
        change = Intervention(kind="ids", detail=f"{name} wrote into input_ids")
        if self._open is not None and change not in self._open.caught.interventions:
            self._open.caught.interventions.append(change)

    @unseen_by_modes
    def on_scores_done(self, scores: torch.Tensor) -> torch.Tensor:
        """All processors ran; with sampling, the draw is next.

        Returns:
            The scores to choose from.
        """
        step = self._open
        if step is not None:
            step.processing = False
        if step is not None and self._options.sampling and step.scores is not None:
            with self.guard("choice"):
                step.rng_before = generator_state(step.scores.device)
        return self._intervened(scores)

    @unseen_by_modes
    def change_choice(self, change: TokenChange, scores: torch.Tensor | None) -> torch.Tensor | None:
        """Force or ban a token in the next choice.

        Args:
            change: what to do.
            scores: ``[batch, vocab]`` that are about to be chosen from, if the processors of this step have
                run and its choice is not made; else None.

        Returns:
            The scores to choose from instead, if there were any.
        """
        self.interventions.add(change)
        return None if scores is None else self._intervened(scores)

    def change_setting(self, name: str, value: float) -> str:
        """Change a setting of a processor until the run ends.

        Returns:
            The setting with its new value.

        Raises:
            UsageError: no processor of this run has such a setting, or it refuses the value.
        """
        step = self._open
        stages = 0 if step is None or step.scores is None else step.scores.count
        number = self.steps + 1 if step is None else step.caught.number
        return self.interventions.set(name, value, step=number, stages=stages).detail

    def _intervened(self, scores: torch.Tensor) -> torch.Tensor:
        step = self._open
        if step is None or not self.interventions.any:
            return scores
        with self.guard("choice"):
            self._leave_out_written(step)
            stages = None if step.scores is None else step.scores.stages
            scores, done = self.interventions.apply(scores, step.caught.number, stages)
            recorded = step.caught.interventions
            recorded += [each for each in done if each not in recorded]
        return scores

    @unseen_by_modes
    def on_appended(self, input_ids: torch.Tensor) -> None:
        """The chosen tokens were appended."""
        if not self._undone:
            self.input_ids = input_ids
        if self._open is not None:
            with self.guard("append"):
                self._open.caught.next_ids_spec = spec_of(input_ids)
                self._open.caught.tensors.chosen = clone(input_ids.select(1, -1))

    @unseen_by_modes
    def on_helper(self, method: str, arguments: Mapping[str, Any], result: Any) -> bool:
        """A method in which the loop decides has returned (see :meth:`LoopWatch.helper_returned`)."""
        return self.loop.helper_returned(method, arguments, result)

    @unseen_by_modes
    def end_early(self, others: Sequence[LoopWatch], result: Any) -> Any:
        """The user ends the run here (see :meth:`LoopWatch.end_early`)."""
        return self.loop.end_early(others, result)

    @unseen_by_modes
    def on_updated(self, model_kwargs: Mapping[str, Any]) -> None:
        """``_update_model_kwargs_for_generation`` returned the kwargs for the next step."""
        step = self._open
        if step is None:
            return
        if step.awaited:
            with self.guard("prefill"):
                # The step goes on with another pass; what is read here is what the prompt has left.
                positions = step.caught.sequence_length
                step.caught.cache_after = signature_in(model_kwargs, self._options.model, positions)
            return
        with self.guard("update"):
            self._take_calls(step)
            step.caught.updated = True
            mask, position = model_kwargs.get("attention_mask"), model_kwargs.get("cache_position")
            step.caught.next_mask_spec = spec_of(mask) if mask is not None else None
            if position is not None:
                step.caught.tensors.next_position = clone(position)
            self._note_cache(step.caught, model_kwargs)
            self.loop.updated(model_kwargs)

    @outside_autocast
    def _note_cache(self, caught: CaughtStep, model_kwargs: Mapping[str, Any]) -> None:
        before, kept = caught.cache_before, self.loop.kept(caught.written)
        caught.cache_after = self._cache.update(model_kwargs, kept, caught.sequence_length)
        slots = self._cache.new_slots(before)
        if isinstance(slots, torch.Tensor):
            caught.tensors.cache_slots = slots
        elif slots:
            caught.tensors.saved.update(zip(slot_names(len(slots) // 2), slots, strict=True))
        caught.tensors.cache_norms = self._cache.norms(before, slots, caught.rows)
        if self._cache.unsaved is not None:
            caught.miss("kv", "update", self._cache.unsaved)
        self._cache.read(before, kept)

    @unseen_by_modes
    def peek(self, local: Mapping[str, Any]) -> CaughtStep | None:
        """The step in progress as far as it has come, None between two steps.

        Args:
            local: locals of a library frame that stands still (see :func:`hooks.loop.open_step.peek`).
        """
        if self._open is None:
            return None
        return peek(self._open, local, self._modules, self._cache.reading, self.loop)

    @unseen_by_modes
    def peek_saved(self) -> dict[str, SavedValues]:
        """The tensors that the step in progress has saved so far, by name; none between two steps."""
        return {} if self._open is None else peek_saved(self._open)

    @unseen_by_modes
    def on_criterion(self, index: int, done: Any) -> None:
        """One stopping criterion answered."""
        if self._open is not None:
            caught = self._open.caught
            with self.guard("stopping"):
                caught.tensors.fired[index] = (
                    clone(done) if isinstance(done, torch.Tensor) else torch.full((caught.rows,), bool(done))
                )

    @unseen_by_modes
    def on_stopping_done(self, done: Any) -> Any:
        """All stopping criteria answered: the step is over.

        Returns:
            The answer for the loop: ``done``, or yes for every row where the receiver of the step ends the
            run.
        """
        if self._open is not None:
            with self.guard("stopping"):
                self._open.caught.tensors.done = clone(done)
        if not self.close_step():
            return done
        self._unfinished.clear()
        return torch.ones_like(done)

    @unseen_by_modes
    def stop(self, *, complete: bool, failure: Failure | None = None) -> None:
        """The run is over; later events are ignored.

        Args:
            complete: False where the step in progress was cut short: it is dropped unless it failed.
            failure: what ended the run; the step in progress is delivered as far as it went.
        """
        self._stopped = True
        self.interventions.undo()
        if self._open is not None:
            self._open.caught.failure = failure
        self.close_step(complete=complete or failure is not None)
        self._modules.release()

    def close_step(self, *, complete: bool = True) -> bool:
        """Deliver the step in progress, if there is one. Its small results come to the host here.

        The loop itself waits for the device right after (it asks whether all rows are done), so waiting
        here costs a GPU nothing.

        Args:
            complete: False to drop the step.

        Returns:
            Whether the run shall end here.
        """
        with self._closing:  # closing a trace ends a run of another thread
            step, self._open = self._open, None
        reading = self._cache.take()
        if step is not None:
            self._take_calls(step)
        passed_over = self._options.synced and step is not None and self._passed_over(step)
        if step is None or not complete or passed_over:
            return False
        caught = step.caught
        try:
            self._finish(step, reading)
        except Exception as error:
            if not is_ours(error):
                raise
            caught.errors.append(_capture_error("stopping", error))
        caught.seconds = self.clock.now() - step.began
        self.steps = caught.number
        return self._deliver(caught)

    def _passed_over(self, step: OpenStep) -> bool:
        """Whether the loop went on without scores, be they taken or not, and nothing failed."""
        processed = bool(step.caught.vocab_size) or self.loop.scores() is not None
        return not processed and step.caught.failure is None

    def _take_decided(self, step: OpenStep) -> None:
        """The scores, and what only this loop does; scores go with the rows that continue theirs."""
        caught = step.caught
        self._leave_out_written(step)
        step.scores = step.scores or self.loop.scores()
        caught.tensors.scores = _whole(step)
        if caught.tensors.scores is not None:
            caught.vocab_size = caught.tensors.scores[0].shape[-1]  # a processor may have added tokens
        _finish_loop(self.loop, caught)
        if self._options.save_logits and step.scores is not None and "logits" not in caught.tensors.saved:
            caught.tensors.saved["logits"] = clone(step.scores.stages[0])
        if step.scores is not None and caught.parents:
            step.scores.follow(caught.parents)
            caught.tensors.scores = _whole(step)

    def _finish(self, step: OpenStep, reading: CacheReading | None) -> None:
        caught = step.caught
        queued = None
        caught.not_seen = self._modules.newly_not_seen()
        if step.calls is not None:
            queued = self._queue(caught, step.calls)
            caught.tensors.saved.update(step.calls.saved)
            caught.errors += [CaptureError(stop="layers", message=message) for message in step.calls.errors]
        caught.rng = step.rng_states()
        self._take_decided(step)
        if caught.failure is not None:
            _leave_undecided(caught)
        self._finish_probes(caught)
        caught.logits = None
        sums = bring_to_host(caught, queued, reading)
        if reading is not None:
            self._cache.set_baseline(reading, sums)
        self._cache.reorder(caught.parents)
        self._note_ended(caught.tensors.done)
        if step.scores is not None:
            self._summarise(caught, step.scores)

    def _queue(self, caught: CaughtStep, calls: CallNotes) -> QueuedCalls:
        """Statistics of the step's calls; a GPU without memory for them costs the step nothing else."""
        try:
            return self._modules.queue(calls)
        except Exception as error:
            if not is_ours(error):
                raise
            caught.errors.append(_capture_error("layers", error))
            return QueuedCalls(calls, DeferredCalls(), [])

    def _summarise(self, caught: CaughtStep, scores: ScoreStages) -> None:
        chosen = caught.tensors.chosen
        if scores.complete and chosen is not None:
            caught.summary = scores.summary(chosen, self._options.candidates)
        if caught.summary is None and caught.tensors.scores is not None and scores.device.type == "cpu":
            # The thread that writes will read them, when the program may have been given them.
            caught.tensors.scores = scores.own()

    def _finish_probes(self, caught: CaughtStep) -> None:
        for probe in self._probes:
            _finish_probe(probe, caught)
        for probe in self._left_out:
            caught.miss(probe.capture, "layers", self.loop.unprobed or "")

    def _note_ended(self, done: torch.Tensor | None) -> None:
        if self._options.deferred and done is not None:
            self._unfinished -= {row for row, over in enumerate(done.tolist()) if over}


def _whole(step: OpenStep) -> list[torch.Tensor] | None:
    """The stages of the scores; of a step that did not fail, all of them or none."""
    scores = step.scores
    if scores is None or not scores.count or not (scores.complete or step.caught.failure):
        return None
    return scores.stages


def _leave_undecided(caught: CaughtStep) -> None:
    """A step that failed has as many stages as it came to, and no token chosen where none was."""
    if caught.tensors.scores is not None:
        caught.stages = len(caught.tensors.scores)
        if caught.tensors.chosen is None:
            caught.tensors.chosen = torch.full((caught.rows,), NO_TOKEN)


def _batch(caught: CaughtStep) -> BatchLayout | None:
    """Where activations have the rows of the batch, if that is known."""
    if not caught.model.rows_first:
        return None
    return _layout(caught.rows, caught.fed, known=caught.model.ordinary)


_layout = lru_cache(maxsize=16)(BatchLayout)


def _finish_loop(loop: LoopWatch, caught: CaughtStep) -> None:
    """A fault of it costs the step nothing else."""
    try:
        loop.put(caught)
    except Exception as error:
        if not is_ours(error):
            raise
        caught.errors.append(_capture_error("next-logits", error))


def _finish_probe(probe: Probe, caught: CaughtStep) -> None:
    """A fault of one probe costs the step nothing else."""
    try:
        probe.finish(caught)
    except Exception as error:
        if not is_ours(error):
            raise
        caught.errors.append(_capture_error("layers", error, probe.capture))


def _capture_error(stop: StopName, error: Exception, capture: ProbedCapture | None = None) -> CaptureError:
    return CaptureError(stop=stop, message=printed_error(error), capture=capture)
