"""Watch ``generate()`` of one model for one trace."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, generation

from hooks.decoding.loop_watch import LoopWatch
from hooks.decoding.loops import is_speculative, loop_watch
from hooks.faults import is_ours, remember_handlers, surely
from hooks.known_models import known_model
from hooks.kv_cache.watch import cached_positions
from hooks.loop import installation, model_info, open_traces
from hooks.loop.anchors import find_anchors, require_statements
from hooks.loop.course import Course
from hooks.loop.failures import find_failure
from hooks.loop.first_imports import import_for_forward
from hooks.loop.installation import runs_in_progress
from hooks.loop.processors import describe_criteria, describe_processors, watch_criteria, watch_processors
from hooks.loop.run_capture import CaptureOptions, RunCapture
from hooks.loop.traced_model import generating_model
from hooks.loop.traced_run import OpenRunSink, RunSink, TracedRun, failed_at_start
from hooks.loop.weights import fingerprint
from hooks.modules.model_modules import ModelModules
from hooks.modules.module_watch import ModuleWatch, Observer
from hooks.modules.pointer_table import prepare_kernel
from hooks.printing import printed
from hooks.probes.probe import Probe
from hooks.probes.selection import TensorSelection
from hooks.scores.untouched import scores_stay
from hooks.user_modes import unseen_by_modes
from tracer.clock import utc_now
from tracer.library.loop import Loop
from tracer.library.release import installed_release
from tracer.processes import process_rank
from tracer.schema.run import CaptureSettings, NotSeen, RunHeader

STALLED_SECONDS = 5.0
"""Leaving a block waits for runs of other threads until none of them has made a step for so long."""


class GenerationWatch:
    """Catches every ``generate()`` of a model that belongs to one trace.

    The real loop of ``GenerationMixin`` runs, unmodified: its arguments are replaced by stand-ins that record
    what passes through, and the model's own methods are watched. Classes are never touched, and nothing is
    put on the model before the context is entered. Runs in several threads are caught each by itself.

    Args:
        model: a decoder-only model, or a wrapper that holds one (see :mod:`hooks.loop.traced_model`).
        capture: what to record.
        name: what reports call the model.
        seed: the seed that the caller set, for the header.
        prompt_texts: texts of the prompts, for the header.

    Attributes:
        installation: the layers on the model; None outside of the context.
        generations: calls of ``generate()`` that belong to the trace.
        runs: how many of them reached the decoding loop.

    Raises:
        UnsupportedError: the model is an encoder-decoder, cannot generate, or does not show what is to be
            saved.
        UsageError: what is to be saved does not exist.

    Example:
        >>> with GenerationWatch(model, CaptureSettings()).into(sink):
        ...     model.generate(**inputs)
    """

    def __init__(
        self,
        model: nn.Module,
        capture: CaptureSettings,
        *,
        name: str | None = None,
        seed: int | None = None,
        prompt_texts: tuple[str, ...] = (),
        course: Course | None = None,
    ) -> None:
        for loop in installed_release().loops:
            require_statements(loop)
        found = generating_model(model)
        self._given: object = model
        self._to_watch: PreTrainedModel | None = found
        self._class_name = type(found).__name__
        self._sink: RunSink | None = None
        self._capture = capture
        self._name = name
        self._seed = seed
        self._prompt_texts = tuple(printed(text) for text in prompt_texts)
        self._course = course
        self._known = known_model(found)
        self._selection = TensorSelection(capture, found)
        self._selection.probes(found)  # refuses a model that does not show what is to be saved
        self._known_modules: ModelModules | None = None
        self._process = os.getpid()
        self._in_progress: list[TracedRun] = []
        self._idle = threading.Condition()
        self.installation: installation.Installation | None = None
        self.generations = 0
        self.runs = 0
        self._interrupted = 0
        self._left_inside = 0
        self._membership = open_traces.Membership(self)

    def into(self, sink: RunSink) -> GenerationWatch:
        """Send what is caught to a sink; to be entered as a context afterwards.

        Args:
            sink: receives it.
        """
        self._sink = sink
        return self

    def troubles(self) -> tuple[str, ...]:
        """What a user should be warned of after the context was left, one line each."""
        found = []
        if self._interrupted:
            found.append(
                f"{self._interrupted} generate() in another thread went on after the block was left; "
                "its run ends in the trace as interrupted. Join the thread inside the block."
            )
        if self._left_inside:
            found.append(
                "The block was left inside of its own generate(), whose run ends in the trace as interrupted."
            )
        if self.generations and not self.runs:
            found.append(
                f"generate() was called, but nothing was recorded: {self._class_name} did not come "
                "to a decoding loop of transformers in it."
            )
        return tuple(found)

    def __enter__(self) -> GenerationWatch:
        assert self._to_watch is not None
        self.installation = installation.acquire(self._to_watch, self)
        open_traces.enter(self._membership)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            surely(self.close)

    def close(self) -> None:
        """End the runs in progress, and put the model back; safe to call twice."""
        open_traces.leave(self._membership)
        for run in [*self._in_progress]:
            if run.thread != threading.get_ident():
                self._interrupted += 1
            elif run in runs_in_progress():
                self._left_inside += 1
            run.interrupt()
        if self._to_watch is not None:
            installation.release(self._to_watch, self)
        # Whoever keeps the session does not keep the model.
        self.installation = self._known_modules = self._to_watch = self._given = None

    @property
    def run(self) -> RunCapture | None:
        """The capture of the run in progress in this context, None between runs."""
        return next((run.capture for run in runs_in_progress() if run in self._in_progress), None)

    @unseen_by_modes
    def begin_run(self, loop: Loop, input_ids: torch.Tensor, kwargs: dict[str, Any]) -> TracedRun | None:
        """A run begins: its header is recorded, and stand-ins replace arguments of its loop.

        Args:
            loop: the loop that it is in.
            input_ids: ``[batch, length]`` of the prompt.
            kwargs: the other arguments; changed in place.

        Returns:
            The run; None if it cannot be recorded, or in a forked process, whose parent has the file.
        """
        if os.getpid() != self._process:
            return None
        self.runs += 1
        try:
            return self._begin(loop, input_ids, kwargs)
        except Exception as fault:
            if not is_ours(fault):
                raise
            self._lost(fault)
            return None

    def _begin(self, loop: Loop, input_ids: torch.Tensor, kwargs: dict[str, Any]) -> TracedRun:
        assert self.installation is not None
        assert self._sink is not None
        if self._known_modules is not self.installation.modules:
            self._known_modules = self.installation.modules
            self._selection = TensorSelection(self._capture, self.installation.model)
        remember_handlers()
        import_for_forward(self.installation.model)
        parameters = self.installation.parameters()
        if self._capture.level != "shapes":
            prepare_kernel(parameters.values())
        sampling = bool(kwargs["generation_config"].do_sample)
        processors = kwargs["logits_processor"]
        warpers = kwargs.get("logits_warper") if sampling else None
        described = describe_processors(processors, warpers)
        probes = self._selection.probes(self.installation.model)
        keep_logits = any(probe.capture == "lens" for probe in probes)
        # Of the arguments before any stand-in.
        header = self._header(loop, input_ids, kwargs, described, parameters)
        watch = loop_watch(
            loop,
            self.installation.model,
            kwargs,
            self._known,
            keep_logits=keep_logits,
            statistics=self._capture.level != "shapes",
        )
        header = header.model_copy(update={"passes": watch.passes})
        modules = ModuleWatch(
            self.installation.modules,
            statistics=self._capture.level != "shapes",
            save=self._selection.modules,
            observers=self._observers([*probes, watch]),
        )
        sink = self._sink.begin(header, self._decoder_index())
        try:
            return self._started(sink, header, input_ids, kwargs, modules, watch, probes)
        except BaseException as error:
            # The header is in the trace: without an end record the run would look as if it still went on.
            sink.end(failed_at_start(input_ids, error))
            raise

    def _started(
        self,
        sink: OpenRunSink,
        header: RunHeader,
        input_ids: torch.Tensor,
        kwargs: dict[str, Any],
        modules: ModuleWatch,
        watch: LoopWatch,
        probes: tuple[Probe, ...],
    ) -> TracedRun:
        """Put the stand-ins into the arguments, and note the run as one in progress."""
        assert self.installation is not None
        sampling = bool(kwargs["generation_config"].do_sample)
        processors = kwargs["logits_processor"]
        warpers = kwargs.get("logits_warper") if sampling else None
        lists = [processors] if warpers is None else [processors, warpers]
        stay = header.loop == "_sample" and scores_stay(
            self.installation.model, lists, kwargs["stopping_criteria"]
        )
        capture = RunCapture(
            modules,
            input_ids,
            sink.put,
            CaptureOptions(
                stages=1 + len(header.processors),
                candidates=self._capture.candidates,
                sampling=sampling,
                statistics=self._capture.level != "shapes",
                save_logits=self._selection.logits,
                save_kv=self._selection.kv,
                synced=bool(kwargs.get("synced_gpus")),
                scores_stay=stay,
                deferred=header.loop == "_sample" and hasattr(generation.utils, "DeferredStopCheck"),
                model=self._known,
            ),
            loop=watch,
            probes=probes,
            processors=[*chain(*lists)],
            course=self._course,
            together=lambda: [run.capture for run in runs_in_progress()],
        )
        observer = watch.observer(capture)
        watched = watch_processors(processors, warpers, observer, capture.on_rewritten)
        criteria = watch_criteria(kwargs["stopping_criteria"], observer)
        kwargs["logits_processor"], kwargs["stopping_criteria"] = watched[0], criteria
        if warpers is not None:
            kwargs["logits_warper"] = watched[1]
        run = TracedRun(
            capture,
            sink,
            probes,
            input_ids,
            modules.tape,
            self._over,
            self._lost,
            self.installation,
            partial(find_failure, anchors=header.anchors, modules=self.installation.modules.indices),
        )
        with self._idle:
            self._in_progress.append(run)
        return run

    def _lost(self, fault: Exception) -> None:
        if self._sink is not None:
            self._sink.lost(fault)

    def _over(self, run: TracedRun) -> None:
        with self._idle:
            if run in self._in_progress:
                self._in_progress.remove(run)
            self._idle.notify_all()

    def wait(self) -> None:
        """Wait for runs of other threads, as long as they make steps."""
        own = runs_in_progress()

        def progress() -> list[tuple[TracedRun, int]]:
            return [(run, run.capture.steps) for run in self._in_progress if run not in own]

        with self._idle:
            while before := progress():
                since = time.monotonic()
                while before == progress():
                    if time.monotonic() - since > STALLED_SECONDS:
                        return
                    self._idle.wait(0.05)

    def _observers(self, watches: Sequence[Probe | LoopWatch]) -> dict[int, Observer]:
        assert self.installation is not None
        indexes = self.installation.modules.indices
        found: dict[int, list[Observer]] = {}
        for watch in watches:
            for module, observer in watch.observers().items():
                found.setdefault(indexes[id(module)], []).append(observer)
        return {index: _all_of(observers) for index, observers in found.items()}

    def _header(
        self,
        loop: Loop,
        input_ids: torch.Tensor,
        kwargs: dict[str, Any],
        processors: Any,
        parameters: Mapping[str, torch.Tensor],
    ) -> RunHeader:
        assert self.installation is not None
        config, process = kwargs["generation_config"], process_rank()
        images = model_info.image_id(self.installation.model.config)
        rows = model_info.prompt_rows(input_ids, kwargs.get("attention_mask"), images)
        return RunHeader(
            model=model_info.describe_model(
                self.installation.model, self._name, self._given, parameters.values()
            ),
            generation_config=model_info.settings_in_force(config),
            do_sample=bool(config.do_sample),
            max_length=config.max_length,
            seed=self._seed,
            prompt=model_info.with_texts(rows, self._prompt_texts),
            embedded=model_info.embedded_positions(input_ids, kwargs.get("inputs_embeds")),
            cached=cached_positions(kwargs, self._known),
            processors=processors,
            criteria=describe_criteria(kwargs["stopping_criteria"]),
            modules=self.installation.modules.infos,
            anchors=find_anchors(
                self.installation.model,
                loop,
                do_sample=bool(config.do_sample),
                speculative=is_speculative(kwargs),
            ),
            loop=loop.method,
            stops=loop.stops,
            capture=self._capture,
            versions=model_info.versions(),
            started_at=utc_now(),
            rank=None if process is None else process.rank,
            world_size=None if process is None else process.world_size,
            not_seen=tuple(
                NotSeen(module=index, reason=reason)
                for index, reason in self.installation.modules.unseen().items()
            ),
            weights=fingerprint(self.installation.model, parameters),
            fork=None if self._course is None else self._course.origin,
        )

    def _decoder_index(self) -> int:
        assert self.installation is not None
        model = self.installation.model
        return next(i for i, module in enumerate(model.modules()) if module is model.base_model)


def _all_of(observers: Sequence[Observer]) -> Observer:
    """One observer that calls several, as two watches may have to see the same module."""
    if len(observers) == 1:
        return observers[0]

    def observe(output: Any) -> None:
        for observer in observers:
            observer(output)

    return observe
