"""Compose a traced generation: hooks on the model, a recorder behind them, a trace file at the end."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import tracer.own_packages  # noqa: F401 - says which file is in the way
from hooks.loop.generation_watch import GenerationWatch, require_decoder_only
from hooks.token_texts import TokenTexts
from tracer.analysis.conditions.breaks import BreakWatch, OnBreak
from tracer.analysis.conditions.condition import Condition, Hit, parse_condition
from tracer.errors import CheckFailedError, TraceGenerateError, UsageError
from tracer.halting.callback import OnHalt, StopCallback
from tracer.halting.live_run import LiveRun, StopHandler
from tracer.halting.stops import plan_stops
from tracer.loading.versions import require_supported_transformers
from tracer.recording import RecordingSink, unbuilt_step
from tracer.schema.run import CaptureSettings
from tracer.tracefile import Listener, Recorder, TraceWriter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Level = Literal["shapes", "stats", "tensors"]


class TraceSession:
    """What :func:`trace` gives its ``with`` block.

    Attributes:
        path: the trace file.
    """

    def __init__(
        self,
        path: Path,
        recorder: Recorder,
        sink: RecordingSink,
        breaks: BreakWatch,
        halting: StopCallback | None,
    ) -> None:
        self.path = path
        self._halting = halting
        self._breaks = breaks
        self._recorder = recorder
        self._sink = sink

    @property
    def steps(self) -> int:
        """Steps caught so far, over all runs."""
        return self._sink.steps

    @property
    def violated(self) -> bool:
        """Whether a check did not hold in any step recorded so far."""
        return self._sink.violated

    @property
    def hits(self) -> tuple[Hit, ...]:
        """Where the conditions of ``breaks`` held in the steps recorded so far."""
        return tuple(self._breaks.hits)

    @property
    def failure(self) -> TraceGenerateError | None:
        """Why the trace is incomplete (disk full, folder gone), None while all is well."""
        return self._recorder.failure

    @property
    def faults(self) -> tuple[str, ...]:
        """What could not be recorded or shown, one line each; the generation went on."""
        halts = self._halting.faults if self._halting is not None else ()
        return (*self._sink.faults, *self._recorder.build_errors, *self._recorder.listener_errors, *halts)

    def flush(self) -> None:
        """Wait until everything caught so far is in the file."""
        self._recorder.flush()


@contextmanager
def trace(
    model: PreTrainedModel,
    tokenizer: Any | None = None,
    path: str | os.PathLike[str] = "run.trace",
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
) -> Iterator[TraceSession]:
    """Record every ``generate()`` of a model inside a ``with`` block, each as a run of one trace file.

    The result of ``generate()`` is the same, bit for bit, as without the trace. Leaving the block, by an
    exception or Ctrl-C too, puts the model back exactly as it was and closes the file. A disk that runs
    full ends the recording, not the generation: a ``RuntimeWarning`` says so at the end of the block, as it
    does for a listener that failed.

    Args:
        model: a decoder-only ``*ForCausalLM`` of transformers 4.44.2, on any device.
        tokenizer: its tokenizer, so that reports show text and not only ids.
        path: the trace file to make.
        capture: ``shapes``, ``stats`` (default: statistics of every module call and cache proofs) or
            ``tensors`` (``stats`` plus what ``save`` names).
        save: tensors to store at level ``tensors``: ``logits``, ``hidden``, ``kv``, ``attention``,
            ``modules=REGEX``; and at any level ``lens``, what each layer would have predicted.
        candidates: cap of the candidate lists of a step.
        strict: raise ``CheckFailedError`` in the generation at the first check that does not hold.
        force: replace an existing file.
        max_trace_bytes: stop to store tensors (not the run) when the file would exceed this size.
        listeners: told about every header, step and end, on the writer's thread.
        breaks: conditions to look out for, e.g. ``p_chosen < 0.3`` (:mod:`tracer.analysis.conditions`).
        on_break: what to do where one holds: ``report`` collects it in :attr:`TraceSession.hits`; ``stop``
            ends that ``generate()`` after the step, its trace complete; ``exit`` does too, and leaving the
            block raises ``CheckFailedError``. The last two wait for each step to be recorded.
        on_hit: called with each condition that holds, before the listeners hear of the step.
        stops: where to call ``on_stop``: names as in ``--stop-at``, ``all``; by default the stops of the
            walkthrough (:data:`tracer.halting.stops.DEFAULT_STOPS`).
        stop_steps: in which steps: ``"1,2"`` (default), ``"3-7"``, ``"all"``, or numbers.
        on_stop: called at each of these stops with a :class:`~tracer.halting.callback.Halt`, in the
            generating thread, right before the library's line runs; and at the end of a step in which one of
            ``breaks`` holds.
            An exception that it raises is noted and the generation goes on; ``KeyboardInterrupt`` ends it.
        halt: halts runs by other means than ``on_stop`` (:mod:`tracer.halting.live_run`).
        between_steps: called in the generating thread after each step; what it raises ends the generation.
        name: what reports call the model; by default what it was loaded from.
        seed: the seed that you set, for the header; nothing is seeded here.
        prompt_texts: the text of each prompt row, for the header.

    Yields:
        The session: how many steps were caught, and what went wrong.

    Raises:
        UnsupportedError: for another transformers release, an encoder-decoder model, or (from
            ``generate()``) a decoding mode that is not traced.
        OutputError: if the file exists or cannot be written.
        UsageError: for options that make no sense.
        CheckFailedError: at the end of the block, if a condition held and ``on_break`` is ``exit``.

    Example:
        >>> with trace(model, tokenizer, path="run.trace") as session:
        ...     output = model.generate(**inputs, max_new_tokens=32)
    """
    require_supported_transformers()
    require_decoder_only(model)
    settings = _settings(capture, tuple(save), candidates, strict)
    conditions = _conditions(breaks, on_break)
    halting = _halting(stops, stop_steps, conditions, on_stop, halt)
    watched = BreakWatch(conditions, on_hit)
    texts = TokenTexts(tokenizer)
    mentioned = texts.ids_of(text for condition in conditions for text in condition.texts)
    file = Path(path)
    recorder = Recorder(
        TraceWriter(file, force=force),
        listeners=(watched, *listeners) if conditions else listeners,
        on_build_error=unbuilt_step,
        max_trace_bytes=max_trace_bytes,
    )
    try:
        ends_run = watched if conditions and on_break != "report" else None
        sink = RecordingSink(
            recorder, texts, mentioned=mentioned, ends_run=ends_run, between_steps=between_steps
        )
        stop_handler = halting or halt
        live = (
            LiveRun(sink, tokenizer, stop_handler, recorder.flush, file) if stop_handler is not None else None
        )
        watch = GenerationWatch(
            model, live or sink, settings, name=name, seed=seed, prompt_texts=tuple(prompt_texts)
        )
        if live is not None:
            live.follow(watch)
        with watch:
            yield TraceSession(file, recorder, sink, watched, halting)
    finally:
        recorder.close()
        for trouble in (recorder.failure, *recorder.listener_errors):
            if trouble is not None:
                warnings.warn(str(trouble), RuntimeWarning, stacklevel=3)
        for fault in halting.faults if halting is not None else ():
            warnings.warn(f"on_stop failed {fault}", RuntimeWarning, stacklevel=3)
    if on_break == "exit" and watched.hits:
        raise CheckFailedError(f"A condition held: {watched.hits[0]}")


def _conditions(breaks: Iterable[str], on_break: str) -> tuple[Condition, ...]:
    if on_break not in get_args(OnBreak):
        raise UsageError(f"on_break {on_break!r}: choose from {', '.join(get_args(OnBreak))}.")
    return tuple(parse_condition(text) for text in ([breaks] if isinstance(breaks, str) else breaks))


def _halting(
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


def _settings(capture: str, save: tuple[str, ...], candidates: int, strict: bool) -> CaptureSettings:
    if capture not in get_args(Level):
        raise UsageError(f"capture {capture!r}: choose from {', '.join(get_args(Level))}.")
    if set(save) - {"lens"} and capture != "tensors":
        raise UsageError("save needs capture='tensors' (--capture tensors).")
    if candidates < 1:
        raise UsageError(f"candidates is {candidates}; it must be at least 1.")
    return CaptureSettings(level=cast(Level, capture), save=save, candidates=candidates, strict=strict)
