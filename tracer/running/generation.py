"""One traced generation: check the request, load the model, prepare the prompts, trace, generate."""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hooks.loop.decoding_modes import require_traced_mode
from hooks.loop.first_imports import import_for_forward
from tracer.analysis.conditions.breaks import OnBreak
from tracer.analysis.conditions.condition import Hit
from tracer.errors import (
    CheckFailedError,
    DeviceError,
    GenerationError,
    IncompleteTraceError,
    OutputError,
    TraceGenerateError,
    UsageError,
)
from tracer.halting.live_run import StopHandler
from tracer.loading.models import LoadedModel, ModelSpec, is_out_of_memory, load_model
from tracer.loading.progress import Progress, SilentProgress
from tracer.loading.prompts import PreparedInputs, PromptSpec, check_prompts, prepare_inputs
from tracer.loading.quiet import quiet_library
from tracer.messages import first_line, named, shown
from tracer.running.failed_step import place_of_failure
from tracer.session import Level, trace
from tracer.tracefile import Listener


@dataclass(frozen=True)
class GenerationRequest:
    """What to generate, with what, and what to record.

    Attributes:
        model: which model.
        prompt: from which words.
        path: the trace file to create.
        max_new_tokens: tokens to generate at most.
        settings: generation settings by their names in ``GenerationConfig``; they override the model's own.
        seed: of all generators; None for a new one, which the trace names.
        capture: capture level.
        save: tensors to store.
        candidates: maximum number of candidates recorded per row and step.
        strict: end the generation at a check that does not hold.
        force: replace an existing trace.
        max_trace_bytes: file size from which on tensors are left out; None for no limit.
        breaks: conditions to watch for.
        on_break: what to do where one holds; after ``exit`` it is the caller that fails.
    """

    model: ModelSpec
    prompt: PromptSpec
    path: Path
    max_new_tokens: int = 128
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    capture: Level = "stats"
    save: tuple[str, ...] = ()
    candidates: int = 64
    strict: bool = False
    force: bool = False
    max_trace_bytes: int | None = None
    breaks: tuple[str, ...] = ()
    on_break: OnBreak = "report"


@dataclass(frozen=True)
class GenerationResult:
    """The outcome of a traced generation.

    Attributes:
        path: the trace file.
        texts: generated text per row.
        token_ids: generated ids per row, without the prompt.
        seed: the seed in force.
        notes: what the user should know about the prompt.
        failure: why the trace is incomplete, None while all is well.
        faults: what could not be recorded.
        violated: whether a check did not hold.
        hits: where conditions held.
    """

    path: Path
    texts: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]
    seed: int
    notes: tuple[str, ...]
    failure: TraceGenerateError | None
    faults: tuple[str, ...]
    violated: bool
    hits: tuple[Hit, ...]

    def raise_if_incomplete(self) -> None:
        """Raise what is wrong with the recording.

        Raises:
            IncompleteTraceError: the trace does not hold all of the run.
            CheckFailedError: a check did not hold.
        """
        if self.failure is not None:
            raise IncompleteTraceError(str(self.failure))
        if self.faults:
            more = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
            raise IncompleteTraceError(f"Something could not be recorded: {self.faults[0]}{more}")
        if self.violated:
            raise CheckFailedError(f"A check did not hold; {shown(self.path)} says where.")


def generate_traced(
    request: GenerationRequest,
    *,
    listeners: Sequence[Listener] = (),
    progress: Progress | None = None,
    on_hit: Callable[[Hit], None] | None = None,
    on_prepared: Callable[[PreparedInputs], None] | None = None,
    check_interrupt: Callable[[], None] | None = None,
    make_stop_handler: Callable[[], StopHandler] | None = None,
) -> GenerationResult:
    """Generate what a request asks for, and record it.

    Args:
        request: what to generate and to record.
        listeners: receive every header, step and end while they are recorded.
        progress: receives the phases before the first step.
        on_hit: receives each condition that holds, before the listeners receive the step.
        on_prepared: receives the prepared prompts before the generation starts.
        check_interrupt: called after each step; what it raises ends the generation.
        make_stop_handler: called after the request was checked and before the model is loaded; returns what
            halts the run.

    Raises:
        TraceGenerateError: any expected failure; the trace, if one was begun, is closed and kept.
        KeyboardInterrupt: after the trace was closed and the model put back.
    """
    progress = progress or SilentProgress()
    check_prompts(request.prompt)
    check_settings(request.settings)
    if request.max_new_tokens < 1:
        raise UsageError(f"--max-new-tokens is {request.max_new_tokens}; it must be at least 1.")
    if request.path.exists() and not request.force:
        raise OutputError(
            f"{shown(request.path)} exists already; choose another --out, or pass --force to replace it."
        )
    stop_handler = make_stop_handler() if make_stop_handler is not None else None
    loaded = load_model(request.model, progress)
    limit = getattr(loaded.model.config, "max_position_embeddings", None)
    inputs = prepare_inputs(request.prompt, loaded.tokenizer, limit)
    if on_prepared is not None:
        on_prepared(inputs)
    progress.phase("importing what the first forward pass needs")
    import_for_forward(loaded.model)
    progress.phase("generating")
    try:
        with quiet_library():
            return _generate(request, loaded, inputs, listeners, on_hit, check_interrupt, stop_handler)
    except GenerationError as error:
        where = place_of_failure(request.path)
        kept = f"the trace up to there is kept in {shown(request.path)}"
        raise GenerationError(f"{error} ({where}; {kept})" if where else f"{error} ({kept})") from error


def _generate(
    request: GenerationRequest,
    loaded: LoadedModel,
    inputs: PreparedInputs,
    listeners: Sequence[Listener],
    on_hit: Callable[[Hit], None] | None,
    check_interrupt: Callable[[], None] | None,
    stop_handler: StopHandler | None,
) -> GenerationResult:
    seed = secrets.randbelow(1 << 31) if request.seed is None else request.seed
    with trace(
        loaded.model,
        loaded.tokenizer,
        request.path,
        capture=request.capture,
        save=request.save,
        candidates=request.candidates,
        strict=request.strict,
        force=request.force,
        max_trace_bytes=request.max_trace_bytes,
        listeners=listeners,
        breaks=request.breaks,
        between_steps=check_interrupt,
        halt=stop_handler,
        # The text is still wanted; what `exit` means beyond `stop` is up to the caller.
        on_break="stop" if request.on_break == "exit" else request.on_break,
        on_hit=on_hit,
        name=loaded.name,
        seed=seed,
        prompt_texts=inputs.texts,
    ) as session:
        token_ids = _generated_ids(request, loaded, inputs, seed)
    return GenerationResult(
        path=request.path,
        texts=tuple(loaded.tokenizer.batch_decode(token_ids, skip_special_tokens=True)),
        token_ids=token_ids,
        seed=seed,
        notes=inputs.notes,
        failure=session.failure,
        faults=session.faults,
        violated=session.violated,
        hits=session.hits,
    )


def _generated_ids(
    request: GenerationRequest, loaded: LoadedModel, inputs: PreparedInputs, seed: int
) -> tuple[tuple[int, ...], ...]:
    """Seed all generators and call ``generate()``; returns the new ids of each row."""
    import torch

    tensors = {name: tensor.to(loaded.model.device) for name, tensor in inputs.tensors.items()}
    torch.manual_seed(seed)
    try:
        output = loaded.model.generate(
            **tensors, **generation_arguments(request.settings), max_new_tokens=request.max_new_tokens
        )
    except TraceGenerateError:
        raise
    except Exception as error:
        raise _explained(error) from error
    length = tensors["input_ids"].shape[1]
    return tuple(tuple(row) for row in output[:, length:].tolist())


def generation_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as arguments of ``generate()``.

    A greedy run unsets the checkpoint's sampling settings, about which the library would warn.

    Args:
        settings: generation settings by name.
    """
    if settings.get("do_sample") is not False:
        return dict(settings)
    return {"temperature": None, "top_k": None, "top_p": None, **settings}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse unknown settings and decoding modes that are not traced, before a model is loaded.

    Raises:
        UsageError: for a name that ``GenerationConfig`` does not know, or a value that it refuses.
        UnsupportedError: for beams, assisted decoding and the like, by name.
    """
    from transformers import GenerationConfig

    known = GenerationConfig().to_dict().keys()
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise UsageError(f"--gen {name}: no such generation setting{hint}")
    with quiet_library():
        try:
            config = GenerationConfig(**generation_arguments(settings))
        except (ValueError, TypeError) as error:
            raise UsageError(f"Generation settings: {first_line(error)}") from error
    require_traced_mode(config)


def _explained(error: Exception) -> TraceGenerateError:
    """The one-line error for a fault of the model; the trace up to there is kept."""
    if is_out_of_memory(error):
        return DeviceError(
            "Out of memory in generation; the trace is kept up to the last whole step. "
            "Try fewer tokens, a smaller batch or --dtype bfloat16."
        )
    if isinstance(error, ValueError | TypeError):
        return UsageError(f"generate() refuses these settings: {first_line(error)}")
    return GenerationError(f"The model failed in generation: {named(error)}")
