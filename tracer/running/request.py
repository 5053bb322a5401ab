"""What a traced generation is asked for, and everything that can be refused before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.capture_settings import Level, capture_settings
from tracer.errors import ModelLoadError, UsageError
from tracer.library.decoding_modes import decoding_mode, require_traced_mode
from tracer.library.release import installed_release
from tracer.loading.generation_settings import checked_settings
from tracer.loading.model_folder import GENERATION_CONFIG, find_source, folder_settings
from tracer.loading.model_spec import ModelSpec, check_spec
from tracer.loading.prompts import PromptSpec, check_prompts
from tracer.messages import shown

if TYPE_CHECKING:
    from tracer.analysis.conditions.breaks import OnBreak

MOST_TOKENS = 2**31 - 1


@dataclass(frozen=True)
class GenerationRequest:
    """What to generate, with what, and what to record.

    Attributes:
        model: which model.
        prompt: from which words.
        path: the trace file to create.
        max_new_tokens: tokens to generate at most.
        settings: generation settings by their names in ``GenerationConfig``; they override the model's own.
        assistant: hub id or checkpoint folder of a model that proposes tokens; None for none.
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
    assistant: str | None = None
    seed: int | None = None
    capture: Level = "stats"
    save: tuple[str, ...] = ()
    candidates: int = 64
    strict: bool = False
    force: bool = False
    max_trace_bytes: int | None = None
    breaks: tuple[str, ...] = ()
    on_break: OnBreak = "report"


def check_request(request: GenerationRequest) -> None:
    """Refuse what cannot be, as far as that can be said without torch, whose import takes seconds.

    Args:
        request: what is asked for.

    Raises:
        UsageError: for a prompt, option or value that makes no sense.
        UnsupportedError: for another transformers release, or a decoding mode that is not traced.
        ModelLoadError: the model's folder is not there, or holds no model.
        OutputError: the trace exists or cannot be written.
    """
    check_prompts(request.prompt)
    installed_release()
    _check_length(request)
    checked_settings(request.settings)
    _require_traced(request.settings)
    capture_settings(request.capture, request.save, request.candidates, request.strict)
    check_spec(request.model)
    if request.model.name is not None:
        _check_model(request, request.model.name)
    if request.assistant is not None:
        require_traced_mode({"assistant_model": request.assistant})
        _check_assistant(request.assistant)
    _check_path(request)


def _check_assistant(name: str) -> None:
    """See that there is such a model, and name the option that it came from where there is none."""
    try:
        find_source(name)
    except ModelLoadError as error:
        raise ModelLoadError(str(error).replace("--model", "--assistant-model", 1)) from None


def require_traced_with(request: GenerationRequest, own: Mapping[str, Any]) -> None:
    """Refuse a decoding mode that is not traced, before the weights are loaded.

    Args:
        request: what is asked for.
        own: the generation settings that the model brings.

    Raises:
        UnsupportedError: naming the mode, and where it is set.
    """
    _require_traced(request.settings)
    model = shown(request.model.name or "the model")
    require_traced_mode({**own, **request.settings}, of=f"the {GENERATION_CONFIG} of {model}")


def _require_traced(settings: Mapping[str, Any]) -> None:
    """Refuse an untraced mode that settings lead to whatever the model's own are."""
    # A contrastive search does not sample, and whether the model's settings do is not known here.
    if decoding_mode(settings) != "contrastive_search" or "do_sample" in settings:
        require_traced_mode(settings)


def _check_model(request: GenerationRequest, name: str) -> None:
    """Refuse a folder that holds no model, or one whose own settings lead to an untraced mode."""
    folder = Path(find_source(name).checkpoint)
    if not folder.is_dir():
        return
    try:
        own = folder_settings(folder, name)
    except ModelLoadError:
        if not request.model.allow_damaged:
            raise
        own = {}
    require_traced_with(request, own)


def _check_path(request: GenerationRequest) -> None:
    from tracer.tracefile.writing.creation import check_place  # after everything that takes less time

    check_place(request.path, force=request.force)


def _check_length(request: GenerationRequest) -> None:
    tokens = request.max_new_tokens
    if "max_new_tokens" in request.settings:
        raise UsageError("--gen max_new_tokens: use --max-new-tokens.")
    if tokens < 1:
        raise UsageError(f"--max-new-tokens is {tokens}; it must be at least 1.")
    if tokens > MOST_TOKENS:
        raise UsageError(f"--max-new-tokens is {tokens}; it must be at most {MOST_TOKENS}.")
