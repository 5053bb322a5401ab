"""Compose a traced generation: hooks on the model, a recorder behind them, a trace file at the end."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ContextDecorator
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, get_args

import tracer.own_packages  # noqa: F401 - says which file is in the way
from hooks.faults import surely
from hooks.loop.course import Course
from hooks.loop.generation_watch import GenerationWatch
from hooks.loop.traced_run import RunSink
from hooks.token_texts import TokenTexts
from tracer.analysis.conditions.breaks import BreakWatch, OnBreak
from tracer.analysis.conditions.condition import Condition, Hit, parse_condition
from tracer.capture_settings import Level, capture_settings
from tracer.errors import CheckFailedError, TraceGenerateError, UsageError
from tracer.halting.callback import OnHalt, StopCallback
from tracer.halting.live_run import LiveRun, StopHandler
from tracer.halting.stops import plan_stops
from tracer.library.release import installed_release
from tracer.processes import path_of_rank
from tracer.recording import RecordingSink, unbuilt_step
from tracer.schema.run import CaptureSettings
from tracer.tracefile import Listener, Recorder, TraceWriter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class TraceOptions:
    """What :func:`trace` was asked for; every value has been checked.

    Attributes:
        path: the trace file to create.
        capture: what to record of each step.
        force: replace an existing file.
        max_trace_bytes: file size from which on tensors are left out; None for no limit.
        listeners: receive every header, step and end, on the writer's thread.
        breaks: conditions to watch for.
        on_break: what to do where one holds.
        on_hit: receives each condition that holds, before the listeners.
        stop_callback: calls ``on_stop``; None without one.
        halt: another stop handler, given in its place.
        between_steps: called in the generating thread after each step.
        name: what reports call the model; None for what it was loaded from.
        seed: the seed that the caller set, for the header.
        prompt_texts: the text of each prompt, for the header.
        course: what the run is told to choose (:mod:`tracer.forking`).
        append: add the runs to an existing file.
    """

    path: Path
    capture: CaptureSettings
    force: bool
    max_trace_bytes: int | None
    listeners: tuple[Listener, ...]
    breaks: tuple[Condition, ...]
    on_break: OnBreak
    on_hit: Callable[[Hit], None] | None
    stop_callback: StopCallback | None
    halt: StopHandler | None
    between_steps: Callable[[], None] | None
    name: str | None
    seed: int | None
    prompt_texts: tuple[str, ...]
    course: Course | None = None
    append: bool = False


class TraceSession:
    """What :func:`trace` gives its ``with`` block.

    Attributes:
        path: the trace file.
    """

    def __init__(self, recording: _Recording) -> None:
        self.path = recording.options.path
        self._recording = recording

    @property
    def steps(self) -> int:
        """Number of steps captured so far, over all runs."""
        return self._recording.sink.steps

    @property
    def last_run(self) -> int:
        """Number of the last run that was begun."""
        return self._recording.recorder.last_run

    @property
    def violated(self) -> bool:
        """Whether a check did not hold in any step recorded so far, or of what a run has returned."""
        return self._recording.sink.violated

    @property
    def hits(self) -> tuple[Hit, ...]:
        """Where the conditions of ``breaks`` held in the steps recorded so far."""
        return tuple(self._recording.breaks.hits)

    @property
    def failure(self) -> TraceGenerateError | None:
        """Why the trace is incomplete (disk full, folder gone), None while all is well."""
        return self._recording.recorder.failure

    @property
    def faults(self) -> tuple[str, ...]:
        """What could not be recorded or shown, one line each; the generation went on."""
        return self._recording.faults

    def flush(self) -> None:
        """Wait until everything captured so far is in the file."""
        self._recording.recorder.flush()


def trace(
    model: PreTrainedModel,
    tokenizer: Any | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    capture: Level = "stats",
    save: Iterable[str] = (),
    candidates: int = 64,
    strict: bool = False,
    force: bool = False,
    max_trace_bytes: int | None = None,
    listeners: Sequence[Listener] = (),
    breaks: Iterable[str] = (),
    on_break: OnBreak = "report",
    on_hit: Callable[[Hit], None] | None = None,
    stops: str | Iterable[str] | None = None,
    stop_steps: str | Iterable[int] | None = None,
    on_stop: OnHalt | None = None,
    halt: StopHandler | None = None,
    between_steps: Callable[[], None] | None = None,
    name: str | None = None,
    seed: int | None = None,
    prompt_texts: Sequence[str] = (),
) -> TraceBlock:
    """Record every ``generate()`` of a model inside a ``with`` block, each as a run of one trace file.

    The result of ``generate()`` is the same, bit for bit, as without the trace. Leaving the block, by an
    exception or Ctrl-C too, puts the model back exactly as it was and closes the file. A disk that fills
    up ends the recording, not the generation: a ``RuntimeWarning`` says so at the end of the block, as it
    does for a listener that failed.

    Args:
        model: a decoder-only ``*ForCausalLM`` of transformers, on any device.
        tokenizer: its tokenizer, so that reports show text and not only ids.
        path: the trace file to create; by default ``run.trace``, and in one of several processes that work
            together ``run.rank0.trace`` and so on.
        capture: ``shapes``, ``stats`` (default: statistics of every module call and cache proofs) or
            ``tensors`` (``stats`` plus what ``save`` names).
        save: tensors to store at level ``tensors``: ``logits``, ``hidden``, ``kv``, ``attention``,
            ``modules=REGEX``; and at any level ``lens``, what each layer would have predicted.
        candidates: maximum number of candidates recorded per row and step.
        strict: raise ``CheckFailedError`` in the generation at the first check that does not hold.
        force: replace an existing file.
        max_trace_bytes: stop storing tensors (the run goes on) when the file would exceed this size.
        listeners: receive every header, step and end, on the writer's thread.
        breaks: conditions to watch for, e.g. ``p_chosen < 0.3`` (:mod:`tracer.analysis.conditions`).
        on_break: what to do where one holds: ``report`` collects it in :attr:`TraceSession.hits`; ``stop``
            ends that ``generate()`` after the step, its trace complete; ``exit`` does too, and leaving the
            block raises ``CheckFailedError``. The last two wait for each step to be recorded.
        on_hit: called with each condition that holds, before the listeners receive the step.
        stops: where to call ``on_stop``: names as in ``--stop-at``, ``all``; by default the stops of the
            walkthrough (:data:`tracer.halting.stops.DEFAULT_STOPS`).
        stop_steps: in which steps: ``"1,2"`` (default), ``"3-7"``, ``"all"``, or numbers.
        on_stop: called at each of these stops with a :class:`~tracer.halting.callback.Halt`, in the
            generating thread (in each, where several generate at once), right before the library's line
            runs; and at the end of a step in which one of ``breaks`` holds.
            An exception that it raises is noted and the generation goes on; ``KeyboardInterrupt`` ends it.
        halt: halts runs by other means than ``on_stop`` (:mod:`tracer.halting.live_run`).
        between_steps: called in the generating thread after each step; what it raises ends the generation.
        name: what reports call the model; by default what it was loaded from.
        seed: the seed that you set, for the header; nothing is seeded here.
        prompt_texts: the text of each prompt, for the header.

    Returns:
        A context that gives the session: how many steps were captured, and what went wrong.

    Raises:
        UnsupportedError: for another transformers release, an encoder-decoder model, or (from
            ``generate()``) a decoding mode that is not traced.
        OutputError: if the file exists or cannot be written.
        UsageError: for options that make no sense; an existing file is left as it is.
        CheckFailedError: at the end of the block, if a condition held and ``on_break`` is ``exit``.

    Example:
        >>> with trace(model, tokenizer, path="run.trace") as session:
        ...     output = model.generate(**inputs, max_new_tokens=32)
    """
    installed_release()
    conditions = _conditions(breaks, on_break)
    options = TraceOptions(
        path=path_of_rank(Path("run.trace")) if path is None else Path(path),
        capture=capture_settings(capture, save, candidates, strict),
        force=force,
        max_trace_bytes=max_trace_bytes,
        listeners=tuple(listeners),
        breaks=conditions,
        on_break=on_break,
        on_hit=on_hit,
        stop_callback=_stop_callback(stops, stop_steps, conditions, on_stop, halt),
        halt=halt,
        between_steps=between_steps,
        name=name,
        seed=seed,
        prompt_texts=tuple(prompt_texts),
    )
    return TraceBlock(model, tokenizer, options)


class TraceBlock(ContextDecorator, AbstractContextManager[TraceSession]):
    """The context that :func:`trace` returns.

    A class, since a generator's context assigns the traceback of an exception that passes, which some refuse.

    Args:
        model: the model.
        tokenizer: its tokenizer, or None.
        options: what was asked for.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Any | None, options: TraceOptions) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._options = options
        self._watch: GenerationWatch | None = None
        self._recording: _Recording | None = None

    def _recreate_cm(self) -> TraceBlock:
        """A context of its own for each call of a function that is decorated with this one."""
        return TraceBlock(self._model, self._tokenizer, self._options)

    def __enter__(self) -> TraceSession:
        options = self._options
        if self._watch is not None:
            raise UsageError("This trace was entered before; call trace() again for another one.")
        # Refuses what this model cannot be asked for; the file is created only afterwards.
        self._watch = GenerationWatch(
            self._model,
            options.capture,
            name=options.name,
            seed=options.seed,
            prompt_texts=options.prompt_texts,
            course=options.course,
        )
        try:
            self._recording = _Recording(options, self._tokenizer)
            self._watch.into(self._recording.sink_of(self._watch)).__enter__()
            return TraceSession(self._recording)
        except BaseException:
            try:
                self._close()
            finally:
                self._warn()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._watch is not None
        try:
            if error is None:
                self._watch.wait()
        finally:
            try:
                self._close()
            finally:
                self._warn()
        assert self._recording is not None
        hits = self._recording.breaks.hits
        if error is None and self._options.on_break == "exit" and hits:
            raise CheckFailedError(f"A condition held: {hits[0]}")

    def _close(self) -> None:
        # In one piece: a generator could be interrupted before anything is closed.
        surely(*map(attrgetter("close"), filter(None, (self._watch, self._recording))))

    def _warn(self) -> None:
        for part in (self._watch, self._recording):
            for trouble in () if part is None else part.troubles():
                warnings.warn(trouble, RuntimeWarning, stacklevel=3)


class _Recording:
    """An open trace file and everything that fills it.

    Attributes:
        options: what was asked for.
        breaks: finds the steps in which a condition holds.
        recorder: writes the file on a thread of its own.
        sink: builds records for the recorder.

    Raises:
        OutputError: the file exists or cannot be written.
    """

    def __init__(self, options: TraceOptions, tokenizer: Any | None) -> None:
        self.options = options
        self._tokenizer = tokenizer
        self._live: LiveRun | None = None
        texts = TokenTexts(tokenizer)
        mentioned = texts.ids_of(text for condition in options.breaks for text in condition.texts)
        since = 1 if options.course is None else options.course.origin.step
        self.breaks = BreakWatch(options.breaks, options.on_hit, since=since)
        self.recorder = Recorder(
            TraceWriter(options.path, force=options.force, keep_old=True, append=options.append),
            listeners=(self.breaks, *options.listeners) if options.breaks else options.listeners,
            on_build_error=unbuilt_step,
            max_trace_bytes=options.max_trace_bytes,
            discards_empty=True,
        )
        self.sink = RecordingSink(
            self.recorder,
            texts,
            mentioned=mentioned,
            ends_run=self.breaks if options.breaks and options.on_break != "report" else None,
            between_steps=options.between_steps,
        )

    @property
    def faults(self) -> tuple[str, ...]:
        """What could not be recorded or shown, one line each."""
        recorder = self.recorder
        return (*self.sink.faults, *recorder.build_errors, *recorder.listener_errors, *self._stop_faults)

    def sink_of(self, watch: GenerationWatch) -> RunSink:
        """What a watch writes to: the sink, behind a :class:`LiveRun` where something halts the runs.

        Args:
            watch: the watch.
        """
        callback = self.options.stop_callback
        stop_handler = callback or self.options.halt
        if stop_handler is None:
            return self.sink
        self._live = LiveRun(
            self.sink,
            self._tokenizer,
            stop_handler,
            self.recorder.flush,
            self.options.path,
            None if callback is None else callback.beside,
        )
        self._live.follow(watch)
        return self._live

    def close(self) -> None:
        """Write what is queued and close the file; safe to call twice."""
        self.recorder.close()

    def troubles(self) -> tuple[str, ...]:
        """What the user should be warned of when it is closed, one line each."""
        failure = self.recorder.failure
        return (
            *(() if failure is None else (str(failure),)),
            *self.recorder.listener_errors,
            *self._not_halted(),
            *(f"on_stop failed {fault}" for fault in self._stop_faults),
        )

    def _not_halted(self) -> Iterator[str]:
        count = 0 if self._live is None else self._live.not_halted
        if count:
            yield (
                f"{count} generate() beside another one was recorded, but not halted: the stop handler halts "
                "one run at a time."
            )

    @property
    def _stop_faults(self) -> tuple[str, ...]:
        callback = self.options.stop_callback
        return () if callback is None else tuple(callback.faults)


def _conditions(breaks: Iterable[str], on_break: str) -> tuple[Condition, ...]:
    if on_break not in get_args(OnBreak):
        raise UsageError(f"on_break {on_break!r}: choose from {', '.join(get_args(OnBreak))}.")
    return tuple(parse_condition(text) for text in ([breaks] if isinstance(breaks, str) else breaks))


def _stop_callback(
    stops: str | Iterable[str] | None,
    steps: str | Iterable[int] | None,
    conditions: tuple[Condition, ...],
    on_stop: OnHalt | None,
    halt: StopHandler | None,
) -> StopCallback | None:
    if on_stop is None:
        if stops is not None or steps is not None:
            raise UsageError("stops and stop_steps need on_stop, which is called there.")
        return None
    if halt is not None:
        raise UsageError("on_stop and halt exclude each other.")
    return StopCallback(replace(plan_stops(stops, steps), breaks=conditions), on_stop)
