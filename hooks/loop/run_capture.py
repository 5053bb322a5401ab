"""Catch the steps of one ``_sample`` call, in the order in which they happen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from types import TracebackType
from typing import Any

import torch

from hooks.caught_step import CaughtStep
from hooks.kv_cache.proof import CacheReading
from hooks.kv_cache.view import slot_names
from hooks.kv_cache.watch import CacheWatch
from hooks.loop.interventions import Interventions, TokenChange
from hooks.modules.call_notes import CallNotes
from hooks.modules.module_watch import ModuleWatch
from hooks.modules.reduction import QueuedCalls
from hooks.probes.probe import Probe
from hooks.scores.random_state import DrawStates, generator_state
from hooks.scores.stages import StepScores
from hooks.tensors import info, info_of, is_small_integer, keep
from tracer.schema.run import StopName
from tracer.schema.step import NO_TOKEN, CaptureError, ForwardResult

EARLY_TOKENS = 64
"""Steps that feed more tokens than this (long prefills) reduce outputs one by one: few are held at once."""


class _Guard(AbstractContextManager["_Guard"]):
    """Turns a fault in recording into a capture error, so that the generation never notices."""

    def __init__(self, capture: RunCapture, stop: StopName) -> None:
        self._capture = capture
        self._stop = stop

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):
            self._capture.note_error(self._stop, error)
            return True
        return False


class RunCapture:
    """Told by the hooks what happens inside ``_sample``; hands over each finished step.

    Attributes:
        steps: steps handed over so far.
        input_ids: ``[batch, length]`` as last seen, on the model's device.
        interventions: what the user changes in this run.
    """

    def __init__(
        self,
        modules: ModuleWatch,
        deliver: Callable[[CaughtStep], bool],
        *,
        stages: int,
        candidates: int,
        sampling: bool,
        statistics: bool,
        save_logits: bool = False,
        save_kv: bool = False,
        probes: Sequence[Probe] = (),
        processors: Sequence[Any] = (),
    ) -> None:
        """Prepare for the first step.

        Args:
            modules: the module watch of the model.
            deliver: called with each finished step; its answer is whether the run shall end there.
            stages: number of score stages.
            candidates: cap of the lists of recorded tokens.
            sampling: whether tokens are drawn, so that there is a random state to note.
            statistics: whether to take statistics and check the cache's contents.
            save_logits: whether to store the raw logits.
            save_kv: whether to store the new cache slots.
            probes: look at the forward pass beyond the usual record.
            processors: the processors and warpers themselves, in order, for who changes their settings.
        """
        self.steps = 0
        self.interventions = Interventions([*processors])
        self.input_ids: torch.Tensor | None = None
        self._modules = modules
        self._deliver = deliver
        self._stages = stages
        self._candidates = candidates
        self._sampling = sampling
        self._save_logits = save_logits
        self._probes = probes
        self._cache = CacheWatch(statistics=statistics, save=save_kv)
        modules.forget()
        self._step: CaughtStep | None = None
        self._scores: StepScores | None = None
        self._before_draw: torch.Tensor | None = None
        self._calls: CallNotes | None = None
        self._began = time.perf_counter()
        self._step_began = self._forward_began = self._began

    @property
    def number(self) -> int:
        """Number of the step in progress, from 1; between two steps that of the one before."""
        return self.steps if self._step is None else self._step.number

    def guard(self, stop: StopName) -> _Guard:
        """A context in which an exception becomes a capture error."""
        return _Guard(self, stop)

    def note_error(self, stop: StopName, error: Exception) -> None:
        """Record a fault in recording."""
        if self._step is not None:
            self._step.errors.append(CaptureError(stop=stop, message=f"{type(error).__name__}: {error}"))

    def on_prepared(
        self, input_ids: torch.Tensor, mask: torch.Tensor | None, inputs: Mapping[str, Any], began: float
    ) -> None:
        """``prepare_inputs_for_generation`` returned; a new step begins.

        Args:
            input_ids: the whole sequences so far.
            mask: the attention mask over them, before the model turned it into its own form.
            inputs: what will go into ``forward``.
            began: ``perf_counter`` when the call was made.
        """
        self.close_step()
        self._step_began = began
        self.input_ids = input_ids
        fed = inputs.get("input_ids")
        if fed is None:
            fed = inputs.get("inputs_embeds")
        tensors = [(name, value) for name, value in inputs.items() if isinstance(value, torch.Tensor)]
        step = self._step = CaughtStep(
            number=self.steps + 1,
            started=began - self._began,
            inputs=[(name, info_of(value)) for name, value in tensors],
            others={
                name: _text(value) for name, value in inputs.items() if not isinstance(value, torch.Tensor)
            },
            ids_before=info_of(input_ids),
            sequence_length=input_ids.shape[1],
            fed=fed.shape[1] if fed is not None else 0,
            stages=self._stages,
        )
        with self.guard("model-call"):
            if step.number == 1:
                self._cache.first(inputs, max(0, step.sequence_length - step.fed))
            step.cache_before = self._cache.after
            # Copies stay on the device until the step is over, so that a GPU is not asked in between.
            if mask is not None and mask.dim() == 2:
                step.held["mask"] = keep(mask)
            step.held.update(
                {f"input/{name}": keep(value) for name, value in tensors if is_small_integer(value)}
            )

    def on_forward_begin(self) -> bool:
        """``forward`` is about to run.

        Returns:
            Whether it is the step's own forward pass; False for one that a processor makes.
        """
        step = self._step
        if step is None:
            return False
        if self._calls is not None:
            step.extra_forwards += 1
            return False
        self._modules.begin(early=step.fed * step.ids_before.shape[0] > EARLY_TOKENS)
        for probe in self._probes:
            probe.begin()
        self._forward_began = time.perf_counter()
        return True

    def on_forward_end(self, outputs: Any) -> None:
        """The step's own forward pass returned."""
        step = self._step
        if step is None:
            return
        step.forward_seconds = time.perf_counter() - self._forward_began
        self._calls = self._modules.take()
        for probe in self._probes:
            probe.end()
        with self.guard("forward-result"):
            step.forward = _result(outputs.logits)

    def on_scores(self, stage: int, scores: torch.Tensor) -> None:
        """Scores ``[batch, vocab]`` at a stage."""
        step = self._step
        if step is None:
            return
        with self.guard("processors"):
            if stage == 0:
                self._scores = StepScores(self._stages, scores)
                if self._save_logits:
                    step.saved["logits"] = keep(scores)
            if self._scores is not None:
                self._scores.put(stage, scores)

    def on_scores_done(self, scores: torch.Tensor) -> torch.Tensor:
        """All processors ran; with sampling, the draw is next.

        Returns:
            The scores to choose from.
        """
        if self._step is not None and self._sampling and self._scores is not None:
            with self.guard("choice"):
                self._before_draw = generator_state(self._scores.device)
        return self._intervened(scores)

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
        seen = 0 if self._scores is None else self._scores.seen
        step = self.steps + 1 if self._step is None else self._step.number
        return self.interventions.set(name, value, step=step, stages=seen).detail

    def _intervened(self, scores: torch.Tensor) -> torch.Tensor:
        step = self._step
        if step is None or not self.interventions.any:
            return scores
        with self.guard("choice"):
            stages = None if self._scores is None else self._scores.stages
            scores, done = self.interventions.apply(scores, step.number, stages)
            step.interventions += [each for each in done if each not in step.interventions]
        return scores

    def on_appended(self, input_ids: torch.Tensor) -> None:
        """The chosen tokens were appended."""
        self.input_ids = input_ids
        if self._step is not None:
            with self.guard("append"):
                self._step.ids_after = info_of(input_ids)
                self._step.held["chosen"] = keep(input_ids[:, -1])

    def on_updated(self, model_kwargs: Mapping[str, Any]) -> None:
        """``_update_model_kwargs_for_generation`` returned the kwargs for the next step."""
        step = self._step
        if step is None:
            return
        with self.guard("update"):
            step.updated = True
            mask, position = model_kwargs.get("attention_mask"), model_kwargs.get("cache_position")
            step.next_mask = info_of(mask) if mask is not None else None
            if position is not None:
                step.held["next_position"] = keep(position)
            self._note_cache(step, model_kwargs)

    def _note_cache(self, step: CaughtStep, model_kwargs: Mapping[str, Any]) -> None:
        before = step.cache_before
        step.cache_after = self._cache.look(model_kwargs, step.sequence_length)
        slots = self._cache.new_slots(before)
        if isinstance(slots, torch.Tensor):
            step.held["slots"] = slots
        elif slots:
            step.saved.update(zip(slot_names(len(slots) // 2), slots, strict=True))
        norms = self._cache.norms(before, slots)
        if norms is not None:
            step.held["norms"] = norms
        self._cache.read(before, step.fed)

    def so_far(self, local: Mapping[str, Any]) -> CaughtStep | None:
        """What is known of the step in progress; a copy, of which nothing is handed over.

        Args:
            local: locals of a library frame that stands still, for what has not reached a hook yet:
                ``logits`` in ``forward``, ``outputs`` before the first processor, the longer ``input_ids``.

        Returns:
            The step on the host, with as many score stages as there are and no token chosen where none is;
            None between two steps.
        """
        if self._step is None:
            return None
        step = self._step.copy()
        step.calls = self._modules.look(self._calls)
        logits, ids = local.get("logits"), local.get("input_ids")
        if step.forward is None and isinstance(logits, torch.Tensor) and logits.dim() == 3:
            step.forward = _result(logits)
        if self._scores is not None:
            step.held["scores"] = self._scores.stages
        elif self._calls is not None and hasattr(local.get("outputs"), "logits"):
            step.held["scores"] = local["outputs"].logits[None, :, -1, :].detach().float()
        if isinstance(ids, torch.Tensor) and ids.shape[1:] == (step.sequence_length + 1,):
            step.ids_after = info_of(ids)
            step.held["chosen"] = keep(ids[:, -1])
        if self._before_draw is not None and self._scores is not None:
            device = self._scores.device
            step.draw = DrawStates(str(device), self._before_draw, generator_state(device))
        if "scores" in step.held:
            step.stages = step.held["scores"].shape[0]
            step.held.setdefault("chosen", torch.full((step.ids_before.shape[0],), NO_TOKEN))
        self._to_host(step, None, self._cache.reading)
        return step

    def on_criterion(self, index: int, done: Any) -> None:
        """One stopping criterion answered."""
        step = self._step
        if step is not None:
            with self.guard("stopping"):
                rows = step.ids_before.shape[0]
                step.held[f"fired/{index}"] = (
                    keep(done) if isinstance(done, torch.Tensor) else torch.full((rows,), bool(done))
                )

    def on_stopping_done(self, done: Any) -> Any:
        """All stopping criteria answered: the step is over.

        Returns:
            What the loop is told: ``done``, or yes for every row where the receiver of the step ends the run.
        """
        if self._step is not None:
            with self.guard("stopping"):
                self._step.held["done"] = keep(done)
        return torch.ones_like(done) if self.close_step() else done

    def close_step(self, *, complete: bool = True) -> bool:
        """Hand over the step in progress, if there is one. Its small results come to the host here.

        The loop itself waits for the device right after (it asks whether all rows are done), so waiting
        here costs a GPU nothing.

        Args:
            complete: False to drop a step that an exception cut short.

        Returns:
            Whether the run shall end here.
        """
        step, self._step = self._step, None
        calls, self._calls = self._calls, None
        scores, self._scores = self._scores, None
        reading = self._cache.take()
        self._modules.take()
        if step is None or not complete:
            return False
        try:
            self._finish(step, calls, scores, reading)
        except Exception as error:  # noqa: BLE001 - a fault in recording never breaks the generation
            step.errors.append(CaptureError(stop="stopping", message=f"{type(error).__name__}: {error}"))
        step.seconds = time.perf_counter() - self._step_began
        self.steps = step.number
        return self._deliver(step)

    def _finish(
        self,
        step: CaughtStep,
        calls: CallNotes | None,
        scores: StepScores | None,
        reading: CacheReading | None,
    ) -> None:
        queued = None
        if calls is not None:
            queued = self._modules.queue(calls)
            step.saved.update(calls.saved)
            step.errors += [CaptureError(stop="layers", message=message) for message in calls.errors]
        before, self._before_draw = self._before_draw, None
        if before is not None and scores is not None:
            step.draw = DrawStates(str(scores.device), before, generator_state(scores.device))
        if scores is not None:
            step.held["scores"] = scores.stages
        for probe in self._probes:
            probe.finish(step)
        sums = self._to_host(step, queued, reading)
        if reading is not None:
            self._cache.keep(reading, sums)
        if scores is not None and scores.seen == self._stages and "chosen" in step.held:
            step.summary = scores.summary(step.held["chosen"], self._candidates)

    def _to_host(
        self, step: CaughtStep, queued: QueuedCalls | None, reading: CacheReading | None
    ) -> list[torch.Tensor]:
        """Bring all that a step has to the host, and look at it there.

        Returns:
            The checksums of what was read of the cache.
        """
        results, sums = queued.results if queued else [], reading.sums if reading else []
        copies = step.to_host([*results, *sums])
        results, sums = copies[: len(results)], copies[len(results) :]
        if queued is not None:
            step.calls = queued.taken(results)
        if reading is not None:
            step.cache_read = reading, sums
        return sums


def _result(logits: torch.Tensor) -> ForwardResult:
    return _result_of(logits.shape, logits.dtype, logits.device)


@lru_cache(maxsize=16)
def _result_of(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> ForwardResult:
    """The record of logits of these looks; those of all decode steps are alike."""
    batch, _, vocabulary = shape
    return ForwardResult(
        hidden_states=None,
        logits=info(shape, dtype, device),
        next_logits=info(torch.Size((batch, vocabulary)), dtype, device),
    )


def _text(value: object) -> str:
    """Short text of an argument that is no tensor; large objects by class."""
    if value is None or isinstance(value, bool | int | float | str):
        return str(value)
    return type(value).__name__
