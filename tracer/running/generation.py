"""One traced generation: check the request, load the model, prepare the prompts, trace, generate."""

from __future__ import annotations

import os
import secrets
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from hooks.loop.first_imports import import_for_forward
from hooks.loop.model_arguments import takes_attention_mask
from hooks.loop.traced_model import generating_model
from tracer.analysis.conditions.condition import Hit, parse_condition
from tracer.errors import (
    DeviceError,
    GenerationError,
    TraceGenerateError,
    UsageError,
)
from tracer.forking.forking import Onlookers
from tracer.forking.order import ForkDesk
from tracer.halting.live_run import StopHandler
from tracer.interrupts import LeftRun
from tracer.loading.generation_settings import checked_settings
from tracer.loading.models import LoadedModel, is_out_of_memory, load_model
from tracer.loading.progress import Progress, SilentProgress
from tracer.loading.prompts import PreparedInputs, prepare_inputs
from tracer.loading.quiet import quiet_library
from tracer.messages import first_line, named, shown
from tracer.running.failed_step import place_of_failure
from tracer.running.ordered_forks import with_forks
from tracer.running.request import GenerationRequest, check_request, require_traced_with
from tracer.running.result import GenerationResult
from tracer.schema.run import LOOPS
from tracer.session import trace
from tracer.tracefile import Listener

_LOOP = os.path.join("transformers", "generation", "utils.py")  # noqa: PTH118 - the end of a path, not one
_SETTINGS = tuple(
    os.path.join("transformers", "generation", name)  # noqa: PTH118
    for name in ("logits_process.py", "stopping_criteria.py")
)


def generate_traced(
    request: GenerationRequest,
    *,
    listeners: Sequence[Listener] = (),
    progress: Progress | None = None,
    on_hit: Callable[[Hit], None] | None = None,
    on_prepared: Callable[[PreparedInputs], None] | None = None,
    check_interrupt: Callable[[], None] | None = None,
    make_stop_handler: Callable[[], StopHandler] | None = None,
    desk: ForkDesk | None = None,
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
        desk: where the stop handler leaves orders for forks; they are generated with the same model.

    Raises:
        TraceGenerateError: any expected failure; the trace, if one was begun, is closed and kept.
        KeyboardInterrupt: after the trace was closed and the model put back.
    """
    progress = progress or SilentProgress()
    check_request(request)
    check_settings(request.settings)
    stop_handler = make_stop_handler() if make_stop_handler is not None else None
    loaded = load_model(request.model, progress, partial(require_traced_with, request))
    assistant = None
    if request.assistant is not None:
        assistant = load_model(replace(request.model, name=request.assistant, revision=None), progress).model
    limit = getattr(loaded.model.config, "max_position_embeddings", None)
    inputs = prepare_inputs(request.prompt, loaded.tokenizer, limit)
    if on_prepared is not None:
        on_prepared(inputs)
    progress.phase("importing what the first forward pass needs")
    import_for_forward(loaded.model)
    progress.phase("generating")
    onlookers = Onlookers(
        listeners=tuple(listeners),
        breaks=tuple(parse_condition(text) for text in request.breaks),
        # The text is still wanted; what `exit` means beyond `stop` is up to the caller.
        on_break="stop" if request.on_break == "exit" else request.on_break,
        on_hit=on_hit,
        halt=stop_handler,
        check_interrupt=check_interrupt,
        max_trace_bytes=request.max_trace_bytes,
    )
    try:
        with quiet_library():
            result = _generate(request, loaded, assistant, inputs, onlookers)
            return result if desk is None else with_forks(result, loaded, desk, onlookers)
    except GenerationError as error:
        where = place_of_failure(request.path)
        kept = f"the trace up to there is kept in {shown(request.path)}"
        raise GenerationError(f"{error} ({where}; {kept})" if where else f"{error} ({kept})") from error


def _generate(
    request: GenerationRequest,
    loaded: LoadedModel,
    assistant: Any | None,
    inputs: PreparedInputs,
    onlookers: Onlookers,
) -> GenerationResult:
    seed = secrets.randbelow(1 << 31) if request.seed is None else request.seed
    token_ids: tuple[tuple[int, ...], ...] = ()
    block = trace(
        loaded.model,
        loaded.tokenizer,
        request.path,
        capture=request.capture,
        save=request.save,
        candidates=request.candidates,
        strict=request.strict,
        force=request.force,
        max_trace_bytes=onlookers.max_trace_bytes,
        listeners=onlookers.listeners,
        breaks=request.breaks,
        between_steps=onlookers.check_interrupt,
        halt=onlookers.halt,
        on_break=onlookers.on_break,
        on_hit=onlookers.on_hit,
        name=loaded.name,
        seed=seed,
        prompt_texts=inputs.texts,
    )
    # One that is left for a fork has been recorded up to there.
    with suppress(LeftRun), block as session:
        token_ids = _generated_ids(request, loaded, assistant, inputs, seed)
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
    request: GenerationRequest,
    loaded: LoadedModel,
    assistant: Any | None,
    inputs: PreparedInputs,
    seed: int,
) -> tuple[tuple[int, ...], ...]:
    """Seed all generators and call ``generate()``; returns the new ids of each row."""
    import torch

    model = generating_model(loaded.model)
    tensors = {name: tensor.to(model.device) for name, tensor in _accepted(model, inputs).items()}
    arguments = generation_arguments(checked_settings(request.settings))
    _require_layers(model, arguments)
    if assistant is not None:
        arguments["assistant_model"] = assistant
    if _needs_tokenizer(model, arguments):
        arguments["tokenizer"] = loaded.tokenizer
    torch.manual_seed(seed)
    try:
        output = loaded.model.generate(**tensors, **arguments, max_new_tokens=request.max_new_tokens)
    except TraceGenerateError:
        raise
    except Exception as error:
        raise _explained(error) from error
    # With return_dict_in_generate they are one part of it.
    sequences = getattr(output, "sequences", output)
    length = tensors["input_ids"].shape[1]
    return tuple(tuple(row) for row in sequences[:, length:].tolist())


def _accepted(model: Any, inputs: PreparedInputs) -> dict[str, Any]:
    """The inputs that a model takes.

    Raises:
        UsageError: it takes no attention mask, and the prompts cannot go beside each other without one.
    """
    if takes_attention_mask(model):
        return inputs.tensors
    if not bool(inputs.tensors["attention_mask"].all()):
        raise UsageError(
            f"{type(model).__name__} takes no attention mask, so prompts of different lengths cannot go "
            "into one batch; give one prompt."
        )
    return {"input_ids": inputs.tensors["input_ids"]}


def _require_layers(model: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse layers of DoLa decoding that the model has not; the library fails on them in the first step.

    Raises:
        UsageError: it has none of them, or a negative number goes beyond the first.
    """
    asked = arguments.get("dola_layers", getattr(model.generation_config, "dola_layers", None))
    layers = getattr(model.config, "num_hidden_layers", None)
    if not isinstance(asked, list) or layers is None:
        return
    # It drops those that are not below the last one; negative ones count from the end of all hidden states.
    if all(layer >= layers for layer in asked) or min(asked) < -layers - 1:
        raise UsageError(
            f"dola_layers={shown(str(asked))}: {type(model).__name__} has {layers} layers; "
            f"give numbers from 0, which is the embeddings, to {layers - 1}."
        )


def _needs_tokenizer(model: Any, arguments: Mapping[str, Any]) -> bool:
    """Whether ``generate()`` asks for the tokenizer, because of a setting of the user's or of the model's."""
    in_force = (
        arguments.get(name, getattr(model.generation_config, name, None))
        for name in ("stop_strings", "token_healing")
    )
    return any(in_force)


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
    """Refuse what only the library itself can judge, before a model is loaded.

    Raises:
        UsageError: for values that ``GenerationConfig`` refuses.
    """
    from transformers import GenerationConfig

    with quiet_library():
        try:
            GenerationConfig(**generation_arguments(settings))
        except (ValueError, TypeError) as error:
            raise UsageError(f"Generation settings: {first_line(error)}") from error


def _explained(error: Exception) -> TraceGenerateError:
    """The one-line error for a fault of the model; the trace up to there is kept."""
    if is_out_of_memory(error):
        return DeviceError(
            "Out of memory in generation; the trace is kept up to the last whole step. "
            "Try fewer tokens, a smaller batch or --dtype bfloat16."
        )
    if _is_about_settings(error):
        said = first_line if isinstance(error, ValueError | TypeError) else named
        return UsageError(f"generate() refuses these settings: {said(error)}")
    return GenerationError(f"The model failed in generation: {named(error)}")


def _is_about_settings(error: Exception) -> bool:
    """Whether an error is of ``generate()`` itself, before its loop or in it, or of a processor or criterion.

    An error of the model itself has nothing to do with settings, whatever its class.
    """
    frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    loops = [code for code in frames if code.co_name in LOOPS and code.co_filename.endswith(_LOOP)]
    refused = isinstance(error, ValueError | TypeError) and (
        frames[-1] in loops or any(code.co_filename.endswith(_SETTINGS) for code in frames)
    )
    return refused or not loops
